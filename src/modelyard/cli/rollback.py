"""`modelyard rollback`: back to the previous good deployment, with the server or without it."""

import os
from typing import Any

import click

from modelyard.cli.context import connection_to, home, running_server, stored_token
from modelyard.cli.output import json_option, show_json
from modelyard.client.api import path
from modelyard.domain.errors import ConfigError, Invalid, Unavailable
from modelyard.kit.clock import now_ms

SERVER_PATIENCE_S = 5.0


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
@click.option("--to", type=int, metavar="VERSION", help="Which version; nothing is done if it has all the traffic.")
@click.option("--offline", is_flag=True, help="Do not ask the server; on the gateway's machine only.")
@json_option
def rollback(endpoint: str, message: str, to: int | None, offline: bool, as_json: bool) -> None:
    """Send all traffic back to the previous good deployment, at once.

    When the server does not answer, the gateway of this machine is told directly; the server records it when it is
    back.
    """
    environment, name = split_endpoint(endpoint)
    where = path("environments", environment, "endpoints", name, "rollback")
    here = to or _leads_to(environment, name)
    there = to if os.environ.get("MODELYARD_URL") else here
    done: dict[str, Any] | None = None if offline else by_server(where, message, to=there)
    if done is None:
        from modelyard.deliver.deployments import offline as gateway  # late: not needed while the server answers

        away, back = gateway.take_back(home(), environment, name, message, stored_token(), to=here)
        done = {"environment": environment, "model": name, "from": away, "to": back, "how": "offline"}
    if as_json:
        show_json(done)
        return
    if done["from"] is None and done["to"]:
        click.echo(f"{endpoint}: v{done['to']} has all the traffic.")
        return
    gone, asked = f"v{done['from']}", "was not asked" if offline else "did not answer"
    click.echo(
        f"{endpoint}: all traffic goes to v{done['to']}." if done["to"] else f"{endpoint}: {gone} is taken back."
    )
    click.echo(
        {
            "warm": f"{gone} stays warm; the same command again returns to it.",
            "aborted": f"The rollout of {gone} was aborted.",
            "cold": f"It was no longer warm: its worker starts now, {gone} answers until then.",
            "offline": f"The server {asked}; it records this when it is back.",
        }[done["how"]]
    )


def _leads_to(environment: str, name: str) -> int | None:
    """The version that this machine's gateway would go back to now; None where it is elsewhere.

    A server that answers too late may have seen to it: a rollback to whichever was before would lead forward again.
    """
    from modelyard.deliver.deployments.turning import leads_to  # late: --help needs none of it

    try:
        return leads_to(home(), environment, name)
    except ConfigError:
        return None


def by_server(where: str, message: str, **more: Any) -> dict[str, Any] | None:
    """What the server did; None when there is none that answers. `more` is said too, where it is not None."""
    url = os.environ.get("MODELYARD_URL") or running_server()
    if url is None:
        return None
    try:
        client = connection_to(url, SERVER_PATIENCE_S)
        not_after = now_ms() + int(SERVER_PATIENCE_S * 1000)  # a server that wakes up later must not do it again
        said = {name: value for name, value in more.items() if value is not None}
        return client.call("POST", where, body={"reason": message, "not_after": not_after, **said})
    except Unavailable:
        return None
