"""`modelyard export`: take what the yard holds elsewhere."""

import os
from pathlib import Path

import click

from modelyard.cli.context import running_server, stored_token
from modelyard.cli.import_ import progress, show_report
from modelyard.cli.output import json_option
from modelyard.domain.errors import Unavailable


@click.group()
def export() -> None:
    """Take what the yard holds elsewhere."""


@export.command()
@click.argument("destination")
@click.option(
    "--artifacts",
    type=click.Path(path_type=Path),
    help="Where a database or folder keeps files; beside it by default.",
)
@click.option("--experiment", "experiments", multiple=True, help="Only this experiment; may be repeated.")
@json_option
def mlflow(destination: str, artifacts: Path | None, experiments: tuple[str, ...], as_json: bool) -> None:
    """Export experiments, runs, metrics, artifacts, models, versions and aliases into MLflow.

    DESTINATION is a tracking server (http://host:5000), or a database or folder that an `mlflow server` is started on
    for the time of the export. It may be stopped and started again: what is there already is skipped.
    """
    from modelyard.client.exchange.exporting import Exporter  # late: --help needs none of it
    from modelyard.client.exchange.files import Files
    from modelyard.client.exchange.mlflow_server import reached
    from modelyard.client.exchange.rest import MlflowRest
    from modelyard.client.exchange.server import ServerSource

    url = os.environ.get("MODELYARD_URL") or running_server()
    if url is None:
        raise Unavailable("The yard is not up.", remedy="Start it: modelyard up")
    ours = MlflowRest(url, token=stored_token())
    with reached(destination, artifacts) as mlflow_server:
        target = MlflowRest(mlflow_server.url)
        try:
            report = Exporter(ServerSource(ours), Files(rest=ours), target, progress).run(experiments)
        finally:
            target.close()
            ours.close()
    if mlflow_server.command and not as_json:
        click.echo(f"Serve it: {mlflow_server.command}", err=True)
    show_report(report, as_json)
