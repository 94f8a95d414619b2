"""`modelyard gc`: remove for good what was deleted, and free what it held."""

import click

from modelyard.cli.context import client
from modelyard.cli.output import json_option, show_json


@click.command()
@click.option(
    "--older-than", default="30d", show_default=True, help="Only what was deleted so long ago: 0s, 12h, 30d."
)
@click.option("--at-once", is_flag=True, help="Free the bytes now, not after two days: only while nothing uploads.")
@json_option
def gc(older_than: str, at_once: bool, as_json: bool) -> None:
    """Remove deleted runs, logged models and experiments for good, with their artifacts.

    The libraries of versions that no worker needs any more go too; a version that comes back has them built again.
    """
    body = {"older_than": older_than, "at_once": at_once}
    done = client().call("POST", "/api/v1/storage/purge", body=body)
    if as_json:
        show_json(done)
        return
    click.echo(
        f"Removed {done['runs']} runs, {done['logged_models']} logged models, {done['experiments']} experiments, "
        f"{done['files']} files, {done['environments']} environments of workers. "
        f"{done['freed']} blobs ({done['freed_bytes']} bytes) freed, {done['binned']} binned."
    )
