"""Brief works: done on the event loop's own thread, writes in groups by loop turn."""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine

from modelyard.store.writer import WAKE, Work, Writer


class Brief:
    """Commits what one turn of the event loop brought, on the loop's own thread, and reads what is found by key.

    A metric takes SQLite 20 us; handing it to another thread and back takes five times that. So where a commit needs
    no sync (`durability="process"`), brief works are grouped by loop turn and committed in place, when neither the
    writer's thread nor another process is writing; else they take the ordinary way.
    """

    def __init__(self, writes: Engine, reads: Engine, writer: Writer, after_commit: Callable[[], None]) -> None:
        self._writes, self._reads = writes, reads
        self._writer = writer
        self._after_commit = after_commit
        self._writing: Connection | None = None
        self._reading: Connection | None = None
        self._waiting: list[tuple[Work, asyncio.Future[Any]]] = []
        self._relays: set[asyncio.Future[None]] = set()
        self._home: asyncio.AbstractEventLoop | None = None

    def at_home(self) -> bool:
        """Whether the running loop is the one that brief works belong to: the first that asked."""
        loop = asyncio.get_running_loop()
        if self._home is None:
            self._home = loop
        return self._home is loop

    async def write(self, work: Work) -> Any:
        """The work's result, after its commit; only at home."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((work, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._commit)
        return await future

    def read(self, work: Work) -> Any:
        """The work's result on a connection that cannot write; only at home."""
        if self._reading is None:
            self._reading = self._reads.connect()
        driver: Any = self._reading.connection
        driver.cursor().execute("BEGIN")
        try:
            return work(self._reading)
        finally:
            driver.rollback()
            if self._reading.in_transaction():
                self._reading.rollback()

    def close(self) -> None:
        for connection in (self._writing, self._reading):
            if connection is not None:
                connection.close()
        self._writes.dispose()

    def _commit(self) -> None:
        group, self._waiting = self._waiting, []
        if not self._writer.turn.acquire(blocking=False):
            self._hand_over(group)
            return
        try:
            woken = self._run(group)
        finally:
            self._writer.turn.release()
        if woken:
            self._after_commit()

    def _run(self, group: list[tuple[Work, asyncio.Future[Any]]]) -> bool:
        if self._writing is None:
            self._writing = self._writes.connect()
        connection = self._writing
        connection.info.pop(WAKE, None)
        driver: Any = connection.connection
        try:
            driver.cursor().execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:  # another process writes: the thread can wait for it
            self._hand_over(group)
            return False
        try:
            results = [work(connection) for work, _ in group]
            driver.commit()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits on the future
            driver.rollback()
            connection.rollback()
            if len(group) > 1:
                return any([self._run([single]) for single in group])  # a list: every one of them runs
            if not group[0][1].cancelled():
                group[0][1].set_exception(error)
            return False
        if connection.in_transaction():
            connection.commit()  # SQLAlchemy's own note of a transaction that the driver has ended already
        for (_, future), result in zip(group, results, strict=True):
            if not future.cancelled():
                future.set_result(result)
        return connection.info.pop(WAKE, False)

    def _hand_over(self, group: list[tuple[Work, asyncio.Future[Any]]]) -> None:
        for work, future in group:
            relay = asyncio.ensure_future(_relay(self._writer, work, future))
            self._relays.add(relay)
            relay.add_done_callback(self._relays.discard)


async def _relay(writer: Writer, work: Work, future: "asyncio.Future[Any]") -> None:
    try:
        result = await asyncio.wrap_future(writer.submit(work, brief=True))
    except BaseException as error:  # noqa: BLE001 - handed to whoever waits on the future
        if not future.cancelled():
            future.set_exception(error)
        return
    if not future.cancelled():
        future.set_result(result)
