"""Pipeline runs on this yard's own machine: their journals are followed as they grow, and taken in."""

import asyncio
import logging
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from modelyard.build.pipelines import journal
from modelyard.build.tracking import pipeline_runs
from modelyard.server.yard import Yard
from modelyard.store.database import Store

LOOK_S = 0.2
"""How often a server looks; a command that just ended waits as long to be seen by it."""
logger = logging.getLogger("modelyard.following")


def take_in(store: Store, home: Path, actor: str) -> None:
    """Track the pipeline runs that ran while no server did."""
    for file in journal.files(home):
        record = journal.closed(journal.read(file))
        if record["state"] != journal.RUNNING:
            store.write_now(lambda conn, record=record: _put(conn, record, actor))
            file.unlink(missing_ok=True)


def _put(conn: Connection, record: dict[str, Any], actor: str) -> None:
    pipeline_runs.put(conn, record["id"], record, actor=actor)


class Follower:
    """Takes in journals while their runs go on and when they are over; a run whose process died has failed.

    A run that tells the server itself, as a principal of its own, is left to do so for as long as it lives.
    """

    def __init__(self, yard: Yard, actor: str) -> None:
        self._yard, self._actor = yard, actor
        self._sizes: dict[Path, int] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:  # the loop of last resort: one bad journal must not end the tracking of others
                logger.exception("the journals of pipeline runs could not be taken in; it is tried again")
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Take in what is new."""
        for file in journal.files(self._yard.home):
            try:
                size = file.stat().st_size
                record = journal.closed(journal.read(file))
            except FileNotFoundError:  # its runner delivered it meanwhile
                continue
            over = record["state"] != journal.RUNNING
            if over or (not record["told"] and self._sizes.get(file) != size):
                await self._yard.store.write(lambda conn, record=record: _put(conn, record, self._actor))
                self._sizes[file] = size
            if over:
                file.unlink(missing_ok=True)
                self._sizes.pop(file, None)
