"""`modelyard run`: run a pipeline."""

import json
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from modelyard.cli.context import PROJECT_FILE, client, home, project_dir, running_server
from modelyard.cli.live import Live
from modelyard.cli.output import json_option, show_json
from modelyard.cli.stopping import stoppable
from modelyard.domain.errors import Invalid
from modelyard.kit.files import atomic_write

if TYPE_CHECKING:
    from modelyard.build.pipelines.execution import Executor
    from modelyard.build.pipelines.runner import PipelineResult

MARKS = {
    "started": "…",
    "building": "…",
    "cached": "=",
    "finished": "✓",
    "failed": "✗",
    "retried": "↻",
    "skipped": "-",
}
LAST = "last-run.json"


@click.command()
@click.argument("pipeline", metavar="[FILE.py:PIPELINE]", default="")
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; may be repeated.")
@click.option("--fresh", multiple=True, metavar="STEP", help="Run this step even if its result is cached.")
@click.option("--explain", metavar="STEP", help="Say why this step ran or did not, and would now; run nothing.")
@click.option("--resume", is_flag=True, help="Go on with the last run: finished steps are not run again.")
@click.option("--sample", type=click.FloatRange(0, 1, min_open=True), help="Run on this share of the rows.")
@click.option("--workers", type=click.IntRange(1), help="How many steps run at once; the number of CPUs by default.")
@click.option("--engine", default="local", metavar="ENGINE", help="local, ray (this machine), or ray://HOST:PORT.")
@click.option("--cause", hidden=True, help="The event that led to this run.")
@click.option("--run-id", hidden=True, help="The id of the pipeline run, given by whoever started it.")
@click.option("--progress/--no-progress", default=True, help="Print each step as it starts and ends.")
@json_option
def run(
    pipeline: str,
    params: tuple[str, ...],
    fresh: tuple[str, ...],
    explain: str | None,
    resume: bool,
    sample: float | None,
    workers: int | None,
    engine: str,
    cause: str | None,
    run_id: str | None,
    progress: bool,
    as_json: bool,
) -> None:
    """Run a pipeline: finished steps are taken from the cache, so a stopped run goes on where it was.

    Without a name it is the pipeline that modelyard.toml declares, if it is one.

    modelyard run pipeline.py:train_delay -p first_month=2
    """
    folder, given = project_dir(), dict(pair(text) for text in params)
    if "MODELYARD_HOME" in os.environ:
        os.environ["MODELYARD_HOME"] = str(home().resolve())
    os.chdir(folder)  # where steps find the project's files, as in CI and on a cluster
    if resume:
        pipeline, given = _last_run(pipeline)
    pipeline = pipeline or _only(folder)
    if explain:
        _explain(folder, pipeline, given, explain)
        return
    atomic_write(home() / LAST, json.dumps({"pipeline": pipeline, "params": given}).encode(), durable=False)
    told = progress and not as_json
    options: dict[str, Any] = {"fresh": frozenset(fresh), "cause": cause, "workers": workers, "sample": sample}
    with stoppable(), redirect_stdout(sys.stderr if as_json else sys.stdout):
        result = _run(folder, pipeline, given, _executor(engine, folder), run_id, told, options)
    if as_json:
        show_json(_shown(result))
    else:
        _tell(pipeline, result)


def _run(
    folder: Path,
    pipeline: str,
    given: dict[str, str],
    executor: "Callable[[], Executor] | None",
    run_id: str | None,
    told: bool,
    options: dict[str, Any],
) -> "PipelineResult":
    """Run it with what the command line asks for. told: print each step as it ends, and what it prints."""
    from modelyard.build.pipelines.runner import Runner  # late: --help needs none of it
    from modelyard.build.pipelines.session import run_reference
    from modelyard.client.hub import ClientHub

    served = bool(os.environ.get("MODELYARD_URL") or running_server())
    tells = served and bool(os.environ.get("MODELYARD_URL") or os.environ.get("MODELYARD_TOKEN"))  # as somebody else
    live, stream = Live(sys.stdout), sys.stdout  # steps that run in this process have a stream of their own

    def show(step: str, state: str, seconds: float) -> None:
        if not told:
            return
        live.note(step, state)
        if state != "started":
            took = f"{seconds:6.2f} s" if state == "finished" else state
            live.above(stream, f"  {MARKS[state]} {step:<24} {took}\n")

    def say(step: str, line: str) -> None:
        live.above(stream, f"    {step} | {line}\n")

    def runner(graph: Any, module: str, only_cached: bool) -> Runner:
        hub = ClientHub(client, home(), tells, served, run_id)
        more: dict[str, Any] = {
            **options,
            "executor": executor,
            "only_cached": only_cached,
            "tell": say if told else None,
        }
        return Runner(graph, folder, module, home(), hub, show, **more)

    with live.shown():
        return run_reference(folder, pipeline, given, runner)


def _tell(pipeline: str, result: "PipelineResult") -> None:
    """Print what a run came to: its versions, and what they led to so far."""
    for version in result.versions:
        click.echo(f"registered {version['model']} v{version['version']}")
        if "onnx" in version:
            click.echo(f"  {version['onnx']}")
    click.echo(f"{pipeline.rpartition(':')[2]} finished in {result.seconds:.1f} s")
    if result.versions:
        from modelyard.cli.outcome import tell  # late: loads the HTTP client

        for version in result.versions:
            tell(client(), version["model"], version["version"])


def _last_run(pipeline: str) -> tuple[str, dict[str, str]]:
    """The pipeline and params of the last run here. Raises Invalid when there is none, or it was another pipeline."""
    try:
        held = json.loads((home() / LAST).read_bytes())
    except (OSError, ValueError) as error:
        raise Invalid("There is no run to go on with.", remedy="Start one: modelyard run FILE.py:PIPELINE") from error
    if pipeline not in ("", held["pipeline"]):
        raise Invalid(f"The last run was of {held['pipeline']}.", remedy=f"Run it: modelyard run {pipeline}")
    return held["pipeline"], held["params"]


def _only(folder: Path) -> str:
    """The one pipeline that the project file declares. Raises Invalid that names them when there are several."""
    from modelyard.domain.project import parse_project  # late: a named pipeline needs none of it

    declared = {model.pipeline for model in parse_project((folder / PROJECT_FILE).read_text()).models.values()}
    if len(declared - {""}) != 1:
        known = ", ".join(sorted(declared - {""})) or "it declares none"
        raise Invalid(f"Which pipeline of {PROJECT_FILE}? ({known})", remedy="Write: modelyard run FILE.py:PIPELINE")
    return (declared - {""}).pop()


def _explain(folder: Path, pipeline: str, given: dict[str, str], step: str) -> None:
    from modelyard.build.pipelines.explain import explain_step  # late: --help needs none of it
    from modelyard.build.pipelines.project import coerce, load_pipeline

    _, found = load_pipeline(folder, pipeline)
    for line in explain_step(found.trace(coerce(found, given)), step, folder, home()):
        click.echo(line)


def _executor(engine: str, folder: Path) -> "Callable[[], Executor] | None":
    """What makes the executor when the first step needs it; None for local processes. Raises Invalid."""
    if engine == "local":
        return None
    from modelyard.build.pipelines.ray import RayTasks, address_of  # late: an extra

    address = address_of(engine)
    return lambda: RayTasks(folder, home() / "cache", address)


def pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise Invalid(f"--param {text!r} is not NAME=VALUE.", remedy="Write it such as --param first_month=2")
    return name, value


def _shown(result: "PipelineResult") -> dict[str, Any]:
    return {
        "pipeline_run_id": result.pipeline_run_id,
        "steps": result.states,
        "versions": result.versions,
        "seconds": result.seconds,
    }
