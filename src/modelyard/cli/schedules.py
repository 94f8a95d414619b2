"""`modelyard schedules`, `modelyard trigger`: what the server starts by itself, and starting it by hand."""

import sys
import time
from collections.abc import Callable
from typing import Any

import click

from modelyard.cli.context import client
from modelyard.cli.output import age, json_option, moment, show_json, table
from modelyard.cli.run import pair
from modelyard.client.paths import path
from modelyard.domain.errors import Unavailable

LOOK_S = 0.5
OPEN = ("waiting", "ready", "running", "cancelling")


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def schedules(context: click.Context, as_json: bool) -> None:
    """List declared pipelines: by what they start, when next, and how the last start ended."""
    if context.invoked_subcommand:
        return
    found = client().call("GET", "/api/v1/schedules")["schedules"]
    columns = [
        "name",
        ("starts", lambda s: "; ".join(s["started_by"]) or "by hand"),
        ("next", lambda s: "paused" if s["paused"] else moment(s["next"][0], s["zone"]) if s["next"] else None),
        ("last", lambda s: s["starts"][0]["state"] if s["starts"] else None),
        ("asked", lambda s: age(s["starts"][0]["asked_at"]) + " ago" if s["starts"] else None),
    ]
    table(found, columns, as_json, "No pipeline is declared: add [pipelines.NAME] to modelyard.toml.")


@schedules.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """A pipeline's next moments, newest starts and backfills."""
    found = client().call("GET", path("schedules", name))
    if as_json:
        show_json(found)
        return
    declared, zone = found["declared"], found["zone"]
    click.echo(f"{name}: {declared['pipeline']}, at most {declared['limit']} at once, else {declared['when_busy']}")
    for line in found["started_by"]:
        click.echo(f"  {line}")
    if found["paused"]:
        click.echo(f"paused by {found['paused_by']}: {found['paused_why'] or 'no reason given'}")
    for at in found["next"]:
        click.echo(f"next  {moment(at, zone)}")
    columns = [
        ("id", lambda s: s["id"][:8]),
        "kind",
        ("for", lambda s: moment(s["at"], zone)),
        "state",
        ("took", lambda s: f"{(s['ended_at'] - s['started_at']) / 1000:.1f} s" if _timed(s) else None),
        ("run", lambda s: s["pipeline_run_id"][:8] if s["pipeline_run_id"] else None),
        ("why", lambda s: s["error"]),
    ]
    table(found["starts"], columns, False, "It was not started yet.")
    for each in found["backfills"]:
        states = ", ".join(f"{count} {state}" for state, count in sorted(each["states"].items()))
        click.echo(f"backfill {each['id'][:8]}: {each['dates']} moments, {each['done_before']} done before; {states}")


def _timed(start: dict[str, Any]) -> bool:
    return bool(start["started_at"] and start["ended_at"])


@schedules.command()
@click.argument("name")
@click.option("-m", "--message", default="", help="Why.")
def pause(name: str, message: str) -> None:
    """Start a pipeline no more by itself; by hand it may still be started."""
    client().call("POST", path("schedules", name, "pause"), body={"reason": message})
    click.echo(f"{name} is paused.")


@schedules.command()
@click.argument("name")
def resume(name: str) -> None:
    """Start a pipeline by itself again, from its next moment on."""
    found = client().call("POST", path("schedules", name, "resume"))
    click.echo(
        f"{name} goes on" + (f"; next at {moment(found['next'][0], found['zone'])}." if found["next"] else ".")
    )


@schedules.command()
@click.argument("start")
@click.option("-m", "--message", default="", help="Why.")
def cancel(start: str, message: str) -> None:
    """Stop a start that waits or runs."""
    found = client().call("POST", path("starts", start, "cancel"), body={"reason": message})
    click.echo(f"{found['id'][:8]} is {found['state']}.")


@click.command()
@click.argument("name")
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; may be repeated.")
@click.option("--key", default="", help="Starts once for each key, however often it is sent.")
@click.option("--wait", is_flag=True, help="Wait for its end; exit code 1 when it does not finish.")
@json_option
def trigger(name: str, params: tuple[str, ...], key: str, wait: bool, as_json: bool) -> None:
    """Have the server start a declared pipeline now."""
    body = {"params": dict(pair(text) for text in params), "key": key}
    start = client().call("POST", path("schedules", name, "start"), body=body)
    if wait:
        start = follow(lambda: client().call("GET", path("starts", start["id"])), lambda s: s["state"] not in OPEN)
    if as_json:
        show_json(start)
    else:
        why = f": {start['error']}" if start["error"] else ""
        click.echo(f"start {start['id'][:8]} of {name} is {start['state']}{why}")
    if start["state"] in ("failed", "skipped") or (wait and start["state"] != "finished"):
        sys.exit(1)


def follow(ask: Callable[[], Any], over: Callable[[Any], bool], tell: Callable[[Any], None] | None = None) -> Any:
    """Ask until it is over; a server that restarts meanwhile is waited for."""
    found: Any = None
    while found is None or not over(found):
        try:
            found = ask()
        except Unavailable:
            if found is None:
                raise
        else:
            if tell is not None:
                tell(found)
        if not over(found):
            time.sleep(LOOK_S)
    return found
