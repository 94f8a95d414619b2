"""`modelyard backfill`: run a declared pipeline for each moment of a range."""

import sys
from typing import Any

import click

from modelyard.cli.context import client
from modelyard.cli.output import json_option, moment, show_json
from modelyard.cli.run import pair
from modelyard.cli.schedules import follow
from modelyard.client.paths import path
from modelyard.domain.errors import Invalid

OVER = ("finished", "failed", "cancelled")


@click.command()
@click.argument("pipeline", default="", metavar="[PIPELINE]")
@click.option("--from", "first", help="The first date (2026-01-31), or date and time.")
@click.option("--to", "last", help="The last date, included.")
@click.option(
    "--every", default="", help="A duration (6h, 1d) or cron expression; the pipeline's schedule by default."
)
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; may be repeated.")
@click.option("--parallel", type=click.IntRange(1), default=1, show_default=True, help="How many run at once.")
@click.option("--again", is_flag=True, help="Also what is done already.")
@click.option("--dry-run", is_flag=True, help="List the moments; start nothing.")
@click.option("--no-wait", is_flag=True, help="Do not wait for its end.")
@click.option("--cancel", metavar="ID", help="Stop a backfill: drop what waits, stop what runs.")
@json_option
def backfill(
    pipeline: str,
    first: str | None,
    last: str | None,
    every: str,
    params: tuple[str, ...],
    parallel: int,
    again: bool,
    dry_run: bool,
    no_wait: bool,
    cancel: str | None,
    as_json: bool,
) -> None:
    """Run a declared pipeline for each moment of a range, oldest first; the same command again goes on.

    modelyard backfill daily --from 2026-01-01 --to 2026-01-31
    """
    if cancel:
        _show(client().call("POST", path("backfills", cancel, "cancel")), as_json)
        return
    if not (pipeline and first and last):
        raise Invalid("A backfill needs PIPELINE, --from and --to.", remedy="See: modelyard backfill --help")
    body: dict[str, Any] = {"first": first, "last": last, "every": every, "parallel": parallel, "again": again}
    body["params"] = dict(pair(text) for text in params)
    if dry_run:
        would = client().call("POST", path("schedules", pipeline, "moments"), body=body)
        click.echo("\n".join(moment(at, would["zone"]) for at in would["moments"]))
        return
    found = client().call("POST", path("schedules", pipeline, "backfill"), body=body)
    if not no_wait:
        found = _watch(found, not as_json)
    _show(found, as_json)
    if found["states"].get("failed") or (not no_wait and found["states"].get("cancelled")):
        sys.exit(1)


def _watch(found: dict[str, Any], told: bool) -> dict[str, Any]:
    """Show progress until it is over; stopping this does not stop the backfill."""
    from rich.console import Console  # late: --help needs none of it
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not told) as progress:
        task = progress.add_task(f"backfill {found['id'][:8]}", total=max(1, sum(found["states"].values())))

        def tell(state: dict[str, Any]) -> None:
            progress.update(task, completed=sum(state["states"].get(each, 0) for each in OVER))

        return follow(
            lambda: client().call("GET", path("backfills", found["id"])), lambda state: not state["open"], tell
        )


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    parts = [f"{count} {state}" for state, count in sorted(found["states"].items())]
    parts += [f"{found['done_before']} done before"] if found["done_before"] else []
    click.echo(f"backfill {found['id'][:8]} of {found['pipeline']}: {', '.join(parts) or 'nothing to do'}")
    for each in found["failures"]:
        click.echo(f"  {moment(each['at'], found['zone'])}  {each['error']}")
