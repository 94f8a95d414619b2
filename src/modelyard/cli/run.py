"""`modelyard run`: run a pipeline."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from modelyard.cli.context import client, home, project_dir
from modelyard.cli.outcome import tell
from modelyard.cli.output import json_option, show_json
from modelyard.domain.errors import Invalid

if TYPE_CHECKING:
    from modelyard.build.pipelines.execution import Executor

MARKS = {"started": "…", "cached": "=", "finished": "✓", "failed": "✗", "retried": "↻"}


@click.command()
@click.argument("pipeline", metavar="FILE.py:PIPELINE")
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; may be repeated.")
@click.option("--fresh", multiple=True, metavar="STEP", help="Run this step even if its result is cached.")
@click.option("--engine", default="local", metavar="ENGINE", help="local, ray (this machine), or ray://HOST:PORT.")
@click.option("--cause", hidden=True, help="The event that led to this run.")
@click.option("--progress/--no-progress", default=True, help="Print each step as it starts and ends.")
@json_option
def run(
    pipeline: str,
    params: tuple[str, ...],
    fresh: tuple[str, ...],
    engine: str,
    cause: str | None,
    progress: bool,
    as_json: bool,
) -> None:
    """Run a pipeline: finished steps are taken from the cache, so a stopped run goes on where it was.

    modelyard run pipeline.py:train_delay -p first_month=2
    """
    from modelyard.build.pipelines.runner import Runner  # late: --help needs none of it
    from modelyard.build.pipelines.session import run_reference
    from modelyard.client.hub import ClientHub

    folder = project_dir()
    given = dict(_pair(text) for text in params)

    def show(step: str, state: str, seconds: float) -> None:
        if progress and not as_json and state != "started":
            took = f"{seconds:6.2f} s" if state == "finished" else state
            click.echo(f"  {MARKS[state]} {step:<24} {took}")

    def runner(graph: Any, module: str, only_cached: bool) -> Runner:
        hub = ClientHub(client())
        executor = _executor(engine, folder)
        return Runner(
            graph,
            folder,
            module,
            home(),
            hub,
            show,
            frozenset(fresh),
            cause,
            executor=executor,
            only_cached=only_cached,
        )

    result = run_reference(folder, pipeline, given, runner)
    if as_json:
        show_json(_shown(result))
        return
    for version in result.versions:
        click.echo(f"registered {version['model']} v{version['version']}")
    click.echo(f"{pipeline.rpartition(':')[2]} finished in {result.seconds:.1f} s")
    for version in result.versions:
        tell(client(), version["model"], version["version"])


def _executor(engine: str, folder: Path) -> "Callable[[], Executor] | None":
    """What makes the executor when the first step needs it; None for local processes. Raises Invalid."""
    if engine == "local":
        return None
    from modelyard.build.pipelines.ray import RayTasks, address_of  # late: an extra

    address = address_of(engine)
    return lambda: RayTasks(folder, home() / "cache", address)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise Invalid(f"--param {text!r} is not NAME=VALUE.", remedy="Write it such as --param first_month=2")
    return name, value


def _shown(result: Any) -> dict[str, Any]:
    return {
        "pipeline_run_id": result.pipeline_run_id,
        "steps": result.states,
        "versions": result.versions,
        "seconds": result.seconds,
    }
