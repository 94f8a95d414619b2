"""Brief works: done on the event loop's own thread, writes in groups by loop turn."""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from modelyard.store.writer import WAKE, Work, Writer

Done = Callable[[Any, BaseException | None], None]
"""Told the result of a work, or its error, on the event loop; must not raise."""
EVERY_S = 1.0
"""How long after a commit its checkpoint comes: the more commits one serves, the less it writes."""
logger = logging.getLogger("modelyard.store")


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
        self._waiting: list[tuple[Work, Done]] = []
        self._home: asyncio.AbstractEventLoop | None = None
        self._checkpoints = Checkpoints(reads)

    def at_home(self) -> bool:
        """Whether the running loop is the one that brief works belong to: the first that asked."""
        loop = asyncio.get_running_loop()
        if self._home is None:
            self._home = loop
        return self._home is loop

    def write(self, work: Work, done: Done) -> None:
        """Do the work in this turn's transaction; `done` hears after its commit. Only at home."""
        self._waiting.append((work, done))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._commit)

    def read(self, work: Work) -> Any:
        """The work's result on a connection that cannot write; only at home."""
        if self._reading is None:
            self._reading = self._reads.connect()
        driver: Any = self._reading.connection.driver_connection
        driver.execute("BEGIN")
        try:
            return work(self._reading)
        finally:
            driver.rollback()
            if self._reading.in_transaction():
                self._reading.rollback()

    def close(self) -> None:
        self._checkpoints.close()
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

    def _run(self, group: list[tuple[Work, Done]]) -> bool:
        if self._writing is None:
            self._writing = self._writes.connect()
        connection = self._writing
        connection.info.pop(WAKE, None)
        driver: Any = connection.connection.driver_connection
        try:
            driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:  # another process writes: the thread can wait for it
            self._hand_over(group)
            return False
        try:
            results = [work(connection) for work, _ in group]
            driver.commit()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits for the work
            driver.rollback()
            connection.rollback()
            if len(group) > 1:
                return any([self._run([single]) for single in group])  # a list: every one of them runs
            group[0][1](None, error)
            return False
        if connection.in_transaction():
            connection.commit()  # SQLAlchemy's own note of a transaction that the driver has ended already
        self._checkpoints.due.set()
        woken = connection.info.pop(WAKE, False)
        for (_, done), result in zip(group, results, strict=True):
            done(result, None)
        return woken

    def _hand_over(self, group: list[tuple[Work, Done]]) -> None:
        for work, done in group:
            tell(self._writer.submit(work, brief=True), done)


class Checkpoints:
    """Moves what was committed from the log of writes into the database, on a thread of its own: it syncs the disk.

    SQLite would do it within the commit that fills the log, while every request waits.
    """

    def __init__(self, engine: Engine) -> None:
        self.due = threading.Event()
        self._engine, self._closed = engine, threading.Event()
        self._thread = threading.Thread(target=self._loop, name="modelyard-checkpoint", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self.due.set()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            self.due.wait()
            if self._closed.wait(EVERY_S):
                return
            self.due.clear()
            try:
                with self._engine.connect() as connection:
                    driver: Any = connection.connection.driver_connection
                    driver.execute("PRAGMA wal_checkpoint(PASSIVE)")
            except (DBAPIError, sqlite3.Error) as error:  # a full disk: the writes themselves will tell
                logger.warning("the log of writes cannot be moved into the database: %s", error)


def tell(answer: "Future[Any]", done: Done) -> None:
    """Let `done` hear, on the running loop, what a thread will have answered."""
    loop = asyncio.get_running_loop()

    def pass_on(answered: "Future[Any]") -> None:
        if not loop.is_closed():
            error = answered.exception()
            loop.call_soon_threadsafe(done, None if error else answered.result(), error)

    answer.add_done_callback(pass_on)


def settle(future: "asyncio.Future[Any]") -> Done:
    """What gives a future its result."""

    def done(result: Any, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    return done
