"""`modelyard webhook`: tell other services of events, signed with a secret that is never printed."""

import re
from pathlib import Path
from typing import Any

import click

from modelyard.cli.context import client, home
from modelyard.cli.output import age, json_option, show_json, table
from modelyard.client.api import path
from modelyard.domain.errors import Conflict, Invalid, ModelyardError
from modelyard.kit.files import atomic_write

COLUMNS = ("id", "name", "url", "events", ("state", lambda hook: "active" if hook["active"] else "off"))


@click.group()
def webhook() -> None:
    """Tell other services of events: add, list, test and remove webhooks."""


@webhook.command()
@click.argument("name")
@click.argument("url")
@click.argument("events", nargs=-1, required=True)
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Holds the secret to sign with; written with a new one when it is not there. In the yard by default.",
)
@click.option("--description", default="", help="What it is for.")
@json_option
def add(
    name: str, url: str, events: tuple[str, ...], secret_file: Path | None, description: str, as_json: bool
) -> None:
    """Add a webhook: modelyard webhook add chat https://chat.example.org/hook version.approved alert.opened.

    EVENTS are types of the event catalogue. The secret is never printed: give the receiver the file.
    """
    file = secret_file or _own_file(name)
    body: dict[str, Any] = {"name": name, "url": url, "events": list(events), "description": description}
    given = _secret_in(file) if file.exists() else None
    if given is not None and secret_file is None:
        raise Conflict(f"{file} is there already.", remedy=f"Use it: --secret-file {file}, or choose another name.")
    made = client().call("POST", path("webhooks"), body={**body, "secret": given})
    fresh = made.pop("secret", None)
    if fresh is not None:
        atomic_write(file, fresh.encode() + b"\n", mode=0o600)
    if as_json:
        show_json({**made, "secret_file": str(file)})
    else:
        click.echo(f"Added {made['id']} ({name}). The secret it signs with is in {file}.")


@webhook.command("list")
@json_option
def listed(as_json: bool) -> None:
    """List webhooks, without their secrets."""
    table(client().call("GET", path("webhooks"))["webhooks"], COLUMNS, as_json, empty="No webhooks.")


@webhook.command()
@click.argument("webhook_id")
@json_option
def deliveries(webhook_id: str, as_json: bool) -> None:
    """Show what became of a webhook's deliveries, newest first."""
    found = client().call("GET", path("webhooks", webhook_id, "deliveries"))["deliveries"]
    columns = ["id", "event", "state", "attempts", "status", "error", ("last", lambda item: age(item["updated_at"]))]
    table(found, columns, as_json, empty="Nothing was sent yet.")


@webhook.command()
@click.argument("webhook_id")
def test(webhook_id: str) -> None:
    """Send a test event now; exit code 1 when the receiver does not take it."""
    answer = client().call("POST", path("webhooks", webhook_id, "test"), body={})
    if not answer["success"]:
        raise ModelyardError(f"The receiver did not take it: {answer['error']}.", remedy="Check its address and log.")
    click.echo(f"The receiver took it ({answer['status']}).")


@webhook.command()
@click.argument("webhook_id")
def rm(webhook_id: str) -> None:
    """Remove a webhook; what was not delivered yet is dropped."""
    client().call("DELETE", path("webhooks", webhook_id))
    click.echo(f"Removed {webhook_id}.")


def _own_file(name: str) -> Path:
    return home() / "webhooks" / (re.sub(r"[^\w.-]+", "-", name).strip(".-") + ".secret")


def _secret_in(file: Path) -> str:
    """The secret that a file holds, without the line's end. Raises Invalid for one that is too short to protect."""
    secret = file.read_text(encoding="utf-8").strip()
    if len(secret) < 16:
        raise Invalid(f"The secret in {file} is shorter than 16 characters.", remedy="Remove it to get a new one.")
    return secret
