"""`modelyard endpoints`: what is wanted and what runs."""

import os
from typing import Any

import click

from modelyard.cli.context import client, home, running_server
from modelyard.cli.output import json_option, table
from modelyard.deliver.serving.stats import BOUNDS_MS
from modelyard.kit.clock import now_ms


@click.command()
@json_option
def endpoints(as_json: bool) -> None:
    """Show endpoints: versions, shares, traffic, rollouts, and why what runs is not what is wanted."""
    told = client().call("GET", "/api/v1/endpoints")
    found = told["endpoints"]
    columns = [
        ("endpoint", lambda e: f"{e['environment']}/{e['name']}"),
        ("live", lambda e: _version(e, "live")),
        ("rollout", _rollout),
        ("previous", lambda e: _version(e, "previous")),
        ("workers", _workers),
        ("traffic", _traffic),
        ("gateway", lambda e: f"{e['url'] or '-'} {e['gateway']}"),
    ]
    table(found, columns, as_json, "No endpoint yet. An approved version makes one: modelyard approve ...")
    if not as_json:
        for line in dict.fromkeys(_far(agent) for endpoint in found for agent in endpoint["agents"]):
            click.echo(f"  {line}")
        for endpoint in found:
            for sentence in endpoint["differences"]:
                click.echo(click.style(f"  {endpoint['environment']}/{endpoint['name']}: {sentence}", fg="yellow"))
        for sentence in [*told["server"], *(_away() if found else [])]:
            click.echo(click.style(f"  the server: {sentence}", fg="yellow"))


def _away() -> list[str]:
    """What is to be said where nobody but this command has read the database, since no server runs."""
    if os.environ.get("MODELYARD_URL") or running_server() is not None:
        return []
    from modelyard.deliver.deployments.measuring import last_error  # late: --help needs none of it

    words = last_error(home() / "logs" / "server.log")
    return [
        "it does not run, so no rollout goes on" + (f" (logs/server.log: {words})" if words else ": modelyard up")
    ]


def _far(agent: dict[str, Any]) -> str:
    """A machine that only serves: how long ago it spoke, what it answered, what of its log waits there."""
    told = agent["report"]
    answered = sum(
        held["requests"]
        for endpoint in (told["stats"] or {"endpoints": {}})["endpoints"].values()
        for held in endpoint["deployments"].values()
    )
    waits = told.get("log", {}).get("waiting_bytes", 0) / 1e6
    ago = max(0, now_ms() - agent["seen_at"]) / 1000
    where = f"{agent['environment']} on {agent['name']}"
    return f"{where}: heard of {ago:.0f} s ago, {answered} requests, {waits:.1f} MB of log wait"


def _version(endpoint: dict[str, Any], role: str) -> str:
    deployment = endpoint["deployments"].get(role)
    return f"v{deployment['version']}" if deployment else "-"


def _rollout(endpoint: dict[str, Any]) -> str:
    rollout = endpoint["rollout"]
    if rollout is None:
        newest = endpoint["history"][0] if endpoint["history"] else None
        return f"{newest['state']}: {newest['reason']}" if newest and newest["reason"] else "-"
    reason = f": {rollout['reason']}" if rollout["reason"] else ""
    return f"to {_version(endpoint, 'next')} {rollout['state']} {rollout['share']:.0%}{reason}"


def _workers(endpoint: dict[str, Any]) -> str:
    """How many workers scaled versions have, of how many they may have; else how many each is to have."""
    scaled = [(held, endpoint["workers"].get(held["id"])) for held in endpoint["deployments"].values()]
    said = ", ".join(
        f"v{held['version']}: {told['ready'] if told['wanted'] else 'asleep,'} of {told['min']}-{told['max']}"
        for held, told in scaled
        if told
    )
    return said or (f"{endpoint['workers_each']} each" if endpoint["deployments"] else "-")


def _traffic(endpoint: dict[str, Any]) -> str:
    """Of what has a role, and of the newest rollout's version, be it aborted; the endpoint's page has all others."""
    shown = {deployment["id"] for deployment in endpoint["deployments"].values()}
    shown |= {rollout["to_deployment"] for rollout in endpoint["history"][:1]}
    said = ", ".join(
        f"v{held['version']}: {held['requests']} requests, {held['errors']} errors, "
        + (f"{held['declined']} declined, " if held["declined"] else "")
        + (f"p99 {held['p99_ms']:g} ms" if held["p99_ms"] is not None else f"p99 over {BOUNDS_MS[-1] / 1000:g} s")
        for deployment, held in endpoint["traffic"].items()
        if held["requests"] and deployment in shown
    )
    return said or "-"
