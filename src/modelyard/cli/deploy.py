"""`modelyard deploy`: deploy an approved version."""

import click

from modelyard.cli.approve import split_reference
from modelyard.cli.context import client
from modelyard.client.api import path


@click.command()
@click.argument("reference", metavar="MODEL/VERSION")
@click.option("--to", "environment", required=True, help="The environment.")
def deploy(reference: str, environment: str) -> None:
    """Deploy an approved version; nothing is retrained."""
    model, version = split_reference(reference)
    body = {"model": model, "version": int(version) if version.isdigit() else version}
    made = client().call("POST", path("environments", environment, "deployments"), body=body)
    click.echo(f"{model} v{version} rolls out to {environment} ({made['policy']['strategy']}).")
    click.echo("Follow it: modelyard endpoints")
