"""`modelyard ci`: every check of a project, and the workflows that run it elsewhere."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Generator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from modelyard.cli.context import project_dir
from modelyard.cli.output import json_option, show_json
from modelyard.domain.errors import AlreadyExists, ConfigError, Invalid
from modelyard.domain.project import Project, parse_project

if TYPE_CHECKING:
    from modelyard.build.ci.context import Context
    from modelyard.build.ci.findings import CheckResult

SYSTEMS = ("github", "gitlab", "codebuild", "azure", "jenkins")
MOST_SHOWN = 10


@click.group(invoke_without_command=True)
@click.option("--gates", is_flag=True, help="Run every pipeline in full and hold it against the champion.")
@click.option("--sample", type=float, help="The fraction of the data that a sample run takes; ci.sample by default.")
@click.option("--only", multiple=True, metavar="CHECK", help="Run this check alone; may be repeated.")
@click.option("--skip", multiple=True, metavar="CHECK", help="Leave this check out; may be repeated.")
@click.option("--out", type=click.Path(path_type=Path), help="Where the reports go; .modelyard/ci by default.")
@click.option("--embed", is_flag=True, help="Put the plots into the Markdown report as data URIs.")
@json_option
@click.pass_context
def ci(
    context: click.Context,
    gates: bool,
    sample: float | None,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    out: Path | None,
    embed: bool,
    as_json: bool,
) -> None:
    """Check the project: file, lint, types, tests, dependencies, secrets, runs, contracts, reproducibility, gates.

    Nothing is registered and the yard is not changed. Ends with exit code 1 when a check fails, and leaves
    report.md, junit.xml and modelyard.sarif in --out.
    """
    if context.invoked_subcommand is not None:
        return
    from modelyard.build.ci import checks  # late: loads the registry

    folder = project_dir()
    project = _project(folder)
    fraction = project.ci.sample if sample is None else sample
    if not 0 < fraction <= 1:
        raise Invalid(f"--sample {fraction:g} is no fraction.", remedy="Give more than 0 and at most 1.")
    wanted = checks.chosen(only, skip)
    target = out or folder / ".modelyard" / "ci"
    with _context(folder, project, fraction, gates) as held:
        results: list[CheckResult] = []
        for check in wanted:
            if not as_json and sys.stdout.isatty():
                click.echo(f"  … {check.title}", nl=False)
            result = checks.run(check, held)
            results.append(result)
            if not as_json:
                _show(result)
        _write(held, results, target, embed)
    failed = checks.failed(results)
    if as_json:
        show_json({"passed": not failed, "checks": [_shown(result) for result in results], "reports": str(target)})
    else:
        verdict = (
            f"{len(failed)} of {len(results)} checks failed" if failed else f"{len(results)} checks, none failed"
        )
        click.echo(f"{verdict}. Report: {target / 'report.md'}")
    if failed:
        sys.exit(1)


@ci.command()
@click.argument("system", type=click.Choice(SYSTEMS))
@click.option("--branch", default="main", show_default=True, help="The branch whose commits are trained.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--stdout", "to_stdout", is_flag=True, help="Print the workflow instead of writing it.")
def workflow(system: str, branch: str, force: bool, to_stdout: bool) -> None:
    """Write a workflow: pull request -> checks and a comment; merge -> pipeline, version, approval asked."""
    from modelyard.build.ci import workflows  # late: see above

    folder = project_dir()
    path, text = workflows.render(system, _project(folder), branch, folder)
    if to_stdout:
        click.echo(text, nl=False)
        return
    target = folder / path
    if target.exists() and not force:
        raise AlreadyExists(f"{target} exists already.", remedy="Replace it: --force, or look at it first: --stdout")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    click.echo(f"wrote {path}")
    click.echo("Its first lines say which variables and secrets it needs.")


def _project(folder: Path) -> Project:
    """The declared project; an empty one when the file is broken, which the first check reports."""
    try:
        return parse_project((folder / "modelyard.toml").read_text(encoding="utf-8", errors="replace"))
    except ConfigError:
        return parse_project('[project]\nname = "project"')


@contextlib.contextmanager
def _context(folder: Path, project: Project, sample: float, gates: bool) -> Generator["Context"]:
    from modelyard.build.ci.context import Context  # late: see above
    from modelyard.cli import champions

    scratch = Path(tempfile.mkdtemp(prefix="modelyard-ci-"))
    try:
        held = champions.fetch(project, scratch / "champions")
        known = held is not None
        yield Context(folder, project, scratch, sample, held or {}, known, gates, champions.drift_between)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(context: "Context", results: "list[CheckResult]", target: Path, embed: bool) -> None:
    from modelyard.build.ci import formats, report  # late: see above
    from modelyard.kit.files import atomic_write

    report.write(context, results, target, embed)
    atomic_write(target / "junit.xml", formats.junit(results), durable=False)
    atomic_write(target / "modelyard.sarif", formats.sarif(results, metadata.version("modelyard")), durable=False)


def _show(result: "CheckResult") -> None:
    marks = {"passed": ("✓", "green"), "failed": ("✗", "red"), "skipped": ("-", "bright_black")}
    mark, colour = marks[result.verdict]
    clear = "\r\033[K" if sys.stdout.isatty() else ""
    words = f"{result.title:<32} {result.outcome.summary}"
    click.echo(f"{clear}  {click.style(mark, fg=colour)} {words}  ({result.seconds:.1f} s)")
    findings = [item for item in result.outcome.findings if item.severity != "note"]
    for item in findings[:MOST_SHOWN]:
        place = f"{item.place}: " if item.place else ""
        click.echo(f"      {place}{item.message}")
        click.echo(f"        → {item.remedy}")
    if len(findings) > MOST_SHOWN:
        click.echo(f"      and {len(findings) - MOST_SHOWN} more, in the report")


def _shown(result: "CheckResult") -> dict[str, Any]:
    return {
        "name": result.name,
        "verdict": result.verdict,
        "summary": result.outcome.summary,
        "seconds": result.seconds,
        "findings": [{**item.__dict__, "severity": str(item.severity)} for item in result.outcome.findings],
        "details": result.outcome.details,
    }
