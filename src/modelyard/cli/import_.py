"""`modelyard import`: bring what another tool recorded into the yard."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from modelyard.cli.context import client
from modelyard.cli.output import json_option, show_json
from modelyard.domain.errors import ModelyardError

if TYPE_CHECKING:
    from modelyard.client.exchange.importing import Report


@click.group("import")
def import_() -> None:
    """Bring what another tool recorded into the yard."""


@import_.command()
@click.argument("uri")
@click.option(
    "--artifacts",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The folder of the server's --artifacts-destination, when its database is read.",
)
@click.option("--experiment", "experiments", multiple=True, help="Only this experiment; may be repeated.")
@json_option
def mlflow(uri: str, artifacts: Path | None, experiments: tuple[str, ...], as_json: bool) -> None:
    """Import experiments, runs, metrics, artifacts, models, versions and aliases from an MLflow store.

    URI is a tracking server (http://host:5000), a database (sqlite:///mlflow.db, postgresql://...), a mlruns folder.
    Ids, numbers and times are kept. It may be stopped and started again: what is here already is skipped.
    """
    from modelyard.client.exchange.importing import Importer  # late: --help needs none of it
    from modelyard.client.exchange.opening import open_source

    source, files = open_source(uri, artifacts)
    try:
        report = Importer(source, files, client(), uri.rpartition("@")[2], progress).run(experiments)
    finally:
        source.close()
    show_report(report, as_json)


def progress(text: str) -> None:
    """One line that is written over, for people; nothing for a pipe."""
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{text[:100]}", err=True, nl=False)


def show_report(report: "Report", as_json: bool) -> None:
    """Print what was done. Raises ModelyardError when something did not come across."""
    if sys.stderr.isatty():
        click.echo("\r\033[K", err=True, nl=False)
    if as_json:
        show_json(report.as_json())
    else:
        click.echo(f"experiments    {report.experiments}")
        click.echo(f"runs           {report.runs} new, {report.runs_present} here already")
        click.echo(f"metric points  {report.points}")
        click.echo(f"files          {report.files} new ({report.bytes} bytes), {report.files_present} here already")
        click.echo(f"logged models  {report.logged_models}")
        click.echo(
            f"models         {report.models}, versions {report.versions} new, {report.versions_present} here already"
        )
        click.echo(f"aliases        {report.aliases}")
        for problem in report.problems:
            click.echo(f"  not brought across: {problem}", err=True)
    if report.problems:
        raise ModelyardError(
            f"{len(report.problems)} records did not come across; everything else did.",
            remedy="Mend what is named and run the same command again: it goes on where it left off.",
        )
