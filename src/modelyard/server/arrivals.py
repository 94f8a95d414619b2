"""The loop that looks for new data: one server at a time for each pipeline."""

import asyncio
import logging
from collections.abc import Awaitable

from modelyard.build.schedules import by_data
from modelyard.domain.errors import ModelyardError
from modelyard.domain.pipelines import Pipeline
from modelyard.domain.sections import seconds
from modelyard.events.leases import Leases
from modelyard.server.yard import Yard

logger = logging.getLogger("modelyard.schedules")


def watching(yard: Yard, leases: Leases) -> list[Awaitable[None]]:
    """A loop for each pipeline that waits for data; each runs until cancelled."""
    waiting = {name: declared for name, declared in yard.project.pipelines.items() if declared.on_data}
    return [_watch(yard, leases, name, declared) for name, declared in waiting.items()]


async def _watch(yard: Yard, leases: Leases, name: str, declared: Pipeline) -> None:
    assert declared.on_data is not None, "only a pipeline with on_data is watched"
    while True:
        try:
            if await leases.hold(f"arrivals/{name}"):
                await look(yard, name, declared)
        except ModelyardError as error:
            logger.warning("looking for data of %s: %s", name, error)
        except Exception:  # a loop of last resort: a store that is away now may be there at the next look
            logger.exception("looking for data of %s failed; it is tried again", name)
        await asyncio.sleep(seconds(declared.on_data.every))


async def look(yard: Yard, name: str, declared: Pipeline) -> None:
    """Look once, and take in what arrived."""
    assert declared.on_data is not None, "only a pipeline with on_data is looked after"
    before = await yard.store.read(lambda conn: by_data.known(conn, name))
    seen = await asyncio.to_thread(by_data.look, yard.project_dir, declared.on_data, before)
    watched = await yard.store.read(lambda conn: by_data.watched(conn, name))
    if seen != before or watched != declared.on_data.path:
        await yard.store.write(lambda conn: by_data.take_in(conn, name, declared, seen))
