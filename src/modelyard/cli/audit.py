"""`modelyard audit`: show, verify and export the event chain."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from modelyard.cli.context import client
from modelyard.cli.output import json_option, show_json, table
from modelyard.domain.errors import ModelyardError
from modelyard.kit.clock import iso

WHY = ("reason", "why", "comment")


@click.group(invoke_without_command=True)
@click.option("--types", default="", help="Only these event types, separated by commas.")
@click.option("--subject", help="Only events about this, such as version/flight-delay/3.")
@click.option("-n", "--limit", default=30, show_default=True)
@json_option
@click.pass_context
def audit(context: click.Context, types: str, subject: str | None, limit: int, as_json: bool) -> None:
    """Show the newest events; verify or export the chain."""
    if context.invoked_subcommand:
        return
    query = {"types": types, "subject": subject, "limit": limit, "newest": "true"}
    events = client().call("GET", "/api/v1/events", query=query)["events"]
    columns = [
        *("seq", ("time", lambda e: iso(e["time"])), "type", "subject", "actor", ("id", lambda e: e["id"][:8])),
        ("why", lambda e: next((told for key in WHY if (told := e["data"].get(key))), "")),
    ]
    table(events, columns, as_json, empty="No events match.")


@audit.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--head", help="The digest that an earlier check told: the chain must still end or pass there.")
@json_option
def verify(file: Path | None, head: str | None, as_json: bool) -> None:
    """Check the whole chain, or an export of it in FILE; name the first broken record.

    Removing the newest records leaves a shorter chain that is whole: keep the head that a check tells, and name it
    with --head at the next one.
    """
    found = _verified(file, head)
    if as_json:
        show_json(found)
    elif found["intact"]:
        click.echo(f"The chain is intact: {found['records']} records, head {found['head'][:16]}.")
    if not found["intact"]:
        raise ModelyardError(
            f"The chain is broken at record {found['broken_at']}: {found['reason']}.",
            remedy="Restore the database from a backup and compare: modelyard audit export",
        )


def _verified(file: Path | None, head: str | None) -> dict[str, Any]:
    if file is None and head is None:
        return client().call("GET", "/api/v1/audit/verification")
    from modelyard.events.audit import verify_lines  # late: only here

    if file is not None:
        text = file.read_text(encoding="utf-8", errors="replace")
    else:
        text = client().download("/api/v1/audit/export").decode()
    found = verify_lines(text.splitlines())
    result = {**asdict(found), "intact": found.intact}
    if found.intact and head is not None and f'"hash":"{head}' not in text:
        reason = f"the record with digest {head[:16]} is gone: the newest records were removed"
        result |= {"intact": False, "broken_at": found.records + 1, "reason": reason}
    return result


@audit.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to a file instead of the terminal.")
def export(output: Path | None) -> None:
    """Write the chain as JSON Lines of CloudEvents."""
    data = client().download("/api/v1/audit/export")
    if output is None:
        click.echo(data.decode(), nl=False)
    else:
        output.write_bytes(data)
        click.echo(f"{len(data.splitlines())} records in {output}")


@audit.command()
@click.argument("event_id")
@json_option
def chain(event_id: str, as_json: bool) -> None:
    """Show what led to an event, and what it led to."""
    found = client().call("GET", f"/api/v1/events/{event_id}/chain")
    events = [*found["causes"], found["event"], *found["consequences"]]
    table(events, ["seq", ("time", lambda e: iso(e["time"])), "type", "subject", "actor"], as_json)
