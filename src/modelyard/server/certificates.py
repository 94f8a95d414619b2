"""The loop that tells of certificates that end, or could not be renewed: this server's, gateways', far machines'."""

import asyncio
import logging
from typing import Any

from sqlalchemy import Connection

from modelyard.deliver.deployments import agents, places
from modelyard.deliver.serving import certificates, probe
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.server.yard import Yard

EVERY_S = 60.0
MOST = 100
"""Newest events of one place that are looked through for what was told already."""
Told = dict[str, Any]
logger = logging.getLogger("modelyard.certificates")


async def keep(yard: Yard, every_s: float = EVERY_S) -> None:
    """Until cancelled."""
    while True:
        try:
            await look(yard)
        except Exception:  # a loop of last resort: a store that is away now may be there at the next look
            logger.exception("looking at certificates failed; it is tried again")
        await asyncio.sleep(every_s)


async def look(yard: Yard) -> None:
    """Append what is due as events."""
    told = await _told(yard)

    def due(conn: Connection) -> list[tuple[str, str, Told]]:
        far = {
            f"{agent['environment']}/{agent['name']}": agent["report"].get("stats") for agent in agents.every(conn)
        }
        every = told | {place: (stats or {}).get("tls") for place, stats in far.items()}
        return [(place, *event) for place, held in every.items() if held for event in _due(conn, place, held)]

    def tell(conn: Connection) -> None:
        for place, kind, data in due(conn):
            log.append(conn, kind, f"certificate/{place}", "modelyard", data)

    if await yard.store.read(due):
        await yard.store.write(tell)


async def _told(yard: Yard) -> dict[str, Told | None]:
    """What is to be said by place: `server`, or the environment of a gateway beside it."""
    found = {"server": yard.certificates.told() if yard.certificates is not None else None}
    for environment in yard.project.environments:
        stats = await probe.ask(str(places.admin_socket(yard.home, environment)))
        found[environment] = (stats or {}).get("tls")
    return found


def _due(conn: Connection, place: str, held: Told) -> list[tuple[str, Told]]:
    """(type, data) of the events that were not told yet."""
    types = ("certificate.ending", "certificate.refused")
    before = [event.data for event in log.read(conn, 0, types, f"certificate/{place}", MOST, newest_first=True)]
    found: list[tuple[str, Told]] = []
    for ending in held["files"]:
        days = certificates.days_left(ending["ends_at"], now_ms())
        if days is not None and not any(said.items() >= ending.items() and said["days"] <= days for said in before):
            found.append(("certificate.ending", {**ending, "days": days}))
    refusal = {"reason": held["refused"], "since": held["refused_at"]}
    if held["refused"] and refusal not in before:
        found.append(("certificate.refused", refusal))
    return found
