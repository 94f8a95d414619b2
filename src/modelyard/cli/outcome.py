"""What became of a version that was just registered: its gates, and what to type next."""

import time
from typing import TYPE_CHECKING, Any

import click

from modelyard.client.api import path

if TYPE_CHECKING:
    from modelyard.client.api import Client

PATIENCE_S = 5.0
"""How long a server's gates may take to speak; a busy one decides later, and `modelyard versions` shows it."""


def tell(client: "Client", model: str, number: int) -> None:
    """Print the verdict of the gates and the approvals that are asked for."""
    found = _decided(client, model, number)
    verdict = found["verdict"]
    if verdict is None:
        click.echo(f"The gates have not spoken yet. See: modelyard versions {model}")
    elif not verdict["passed"]:
        why = "; ".join(result["why"] for result in verdict["results"] if not result["passed"])
        click.echo(f"gates failed: {why}")
    else:
        click.echo(f"gates passed ({len(verdict['results'])} checks)")
    for approval in found["approvals"]:
        if approval["state"] == "open":
            place = approval["environment"]
            click.echo(f"approval asked: modelyard approve {model}/{number} --to {place} -m 'why'")


def _decided(client: "Client", model: str, number: int) -> dict[str, Any]:
    end = time.monotonic() + PATIENCE_S
    while True:
        found = client.call("GET", path("models", model, "versions", number))
        if found["verdict"] is not None or time.monotonic() > end:
            return found
        time.sleep(0.1)
