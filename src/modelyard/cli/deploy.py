"""`modelyard deploy`: deploy an approved version, and steer its rollout."""

import click

from modelyard.cli.approve import split_reference
from modelyard.cli.context import client
from modelyard.cli.rollback import split_endpoint
from modelyard.client.api import path


@click.command()
@click.argument("reference", metavar="MODEL/VERSION")
@click.option("--to", "environment", required=True, help="The environment.")
@click.option("--accept-breaking", metavar="WHY", help="Callers know of the changed signature: say why it is fine.")
def deploy(reference: str, environment: str, accept_breaking: str | None) -> None:
    """Deploy an approved version; nothing is retrained."""
    model, version = split_reference(reference)
    body = {
        "model": model,
        "version": int(version) if version.isdigit() else version,
        "accept_breaking": accept_breaking,
    }
    made = client().call("POST", path("environments", environment, "deployments"), body=body)
    click.echo(f"{model} v{version} rolls out to {environment} ({made['policy']['strategy']}).")
    click.echo("Follow it: modelyard endpoints")


@click.command()
@click.argument("action", type=click.Choice(["pause", "resume", "promote", "abort"]))
@click.argument("endpoint", metavar="ENVIRONMENT/ENDPOINT")
@click.option("-m", "--message", required=True, help="Why; kept in the audit chain.")
def rollout(action: str, endpoint: str, message: str) -> None:
    """Pause, resume, promote (all traffic now) or abort the rollout under way at an endpoint."""
    environment, name = split_endpoint(endpoint)
    where = path("environments", environment, "endpoints", name, "rollout", action)
    found = client().call("POST", where, body={"reason": message})
    click.echo(f"The rollout at {endpoint} is {found['state']}.")
