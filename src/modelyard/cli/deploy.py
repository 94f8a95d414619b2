"""`modelyard deploy`: deploy an approved version, and steer its rollout."""

import click

from modelyard.cli.approve import split_reference
from modelyard.cli.context import client, home, stored_token
from modelyard.cli.rollback import by_server, split_endpoint
from modelyard.client.api import path
from modelyard.domain.errors import Invalid


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
@click.option("--offline", is_flag=True, help="Abort without asking the server; on the gateway's machine only.")
def rollout(action: str, endpoint: str, message: str, offline: bool) -> None:
    """Pause, resume, promote (all traffic now) or abort the rollout under way at an endpoint.

    To abort, no server is needed on the gateway's machine, as to roll back.
    """
    environment, name = split_endpoint(endpoint)
    where = path("environments", environment, "endpoints", name, "rollout", action)
    if action == "abort":
        done = None if offline else by_server(where, message)
        if done is None:
            from modelyard.deliver.deployments import offline as gateway  # late: not needed while the server answers

            gateway.take_back(home(), environment, name, message, stored_token(), "abort")
            asked = "was not asked" if offline else "did not answer"
            click.echo(f"The server {asked}; it records this when it is back.")
    elif offline:
        raise Invalid(f"To {action} needs the server.", remedy="Leave --offline out, or abort.")
    else:
        done = client().call("POST", where, body={"reason": message})
    click.echo(f"The rollout at {endpoint} is {done['state'] if done else 'aborted'}.")
