"""`modelyard approve` and `modelyard reject`: a person's decision on a version."""

import click

from modelyard.cli.context import client
from modelyard.client.api import path
from modelyard.domain.errors import Invalid


def split_reference(reference: str) -> tuple[str, str]:
    """(model, version) of `flight-delay/2`. Raises Invalid."""
    model, slash, version = reference.rpartition("/")
    if not slash or not version:
        raise Invalid(
            f"{reference!r} does not name a version.", remedy="Write MODEL/VERSION, such as flight-delay/2."
        )
    return model, version


@click.command()
@click.argument("reference", metavar="MODEL/VERSION")
@click.option("--to", "environment", required=True, help="The environment to approve it for.")
@click.option("-m", "--message", required=True, help="Why; kept with the decision.")
def approve(reference: str, environment: str, message: str) -> None:
    """Approve a version for an environment; its deployment starts by itself."""
    _decide(reference, environment, "approve", message)


@click.command()
@click.argument("reference", metavar="MODEL/VERSION")
@click.option("--to", "environment", required=True, help="The environment to reject it for.")
@click.option("-m", "--message", required=True, help="Why; kept with the decision.")
def reject(reference: str, environment: str, message: str) -> None:
    """Reject a version for an environment."""
    _decide(reference, environment, "reject", message)


def _decide(reference: str, environment: str, verdict: str, message: str) -> None:
    model, version = split_reference(reference)
    body = {"environment": environment, "verdict": verdict, "comment": message}
    found = client().call("POST", path("models", model, "versions", version, "decisions"), body=body)
    click.echo(f"{model} v{version} for {environment}: {found['state']} ({len(found['decisions'])} decision(s))")
