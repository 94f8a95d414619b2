"""`modelyard rollback`: back to the previous good deployment."""

import click

from modelyard.cli.context import client
from modelyard.client.api import path
from modelyard.domain.errors import Invalid


def split_endpoint(reference: str) -> tuple[str, str]:
    """(environment, endpoint) of `production/flight-delay`. Raises Invalid."""
    environment, slash, name = reference.partition("/")
    if not slash or not name:
        raise Invalid(
            f"{reference!r} does not name an endpoint.", remedy="Write ENVIRONMENT/ENDPOINT: production/flight-delay."
        )
    return environment, name


@click.command()
@click.argument("endpoint", metavar="ENVIRONMENT/ENDPOINT")
@click.option("-m", "--message", default="by hand", help="Why; kept in the audit chain.")
def rollback(endpoint: str, message: str) -> None:
    """Send all traffic back to the previous good deployment, at once."""
    environment, name = split_endpoint(endpoint)
    where = path("environments", environment, "endpoints", name)
    client().call("POST", where + "/rollback", body={"reason": message})
    live = client().call("GET", where)["deployments"].get("live")
    click.echo(f"{endpoint} serves v{live['version'] if live else '-'} again.")
