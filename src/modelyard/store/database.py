"""The store: reads beside one group-committing writer, on SQLite or PostgreSQL."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection

from modelyard.store import schema
from modelyard.store.brief import Brief, Done, settle, tell
from modelyard.store.engine import Durability, make_brief_engine, make_engines
from modelyard.store.writer import Writer

T = TypeVar("T")


class Store:
    """The database. `write` and `read` for the server's event loop, `write_now` and `read_now` for plain code.

    A work is a plain function of a connection; it may run twice (see `Writer`), so it has no effects outside the
    database.
    """

    def __init__(self, url: str, durability: Durability = "process") -> None:
        self.url = url
        self._writes, self._reads = make_engines(url, durability)
        try:
            schema.ensure(self._writes, url)
        except BaseException:
            self._dispose()
            raise
        self._listeners: list[Callable[[], object]] = []
        self._writer = Writer(self._writes, self._committed)
        brief = make_brief_engine(url, durability)
        self._brief = Brief(brief, self._reads, self._writer, self._committed) if brief else None
        self._readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="modelyard-reader")

    def on_commit(self, listener: Callable[[], object]) -> None:
        """Call `listener`, from whichever thread wrote, after each commit (of brief works: if they set `WAKE`)."""
        self._listeners.append(listener)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """The work's result, after its commit."""
        return await asyncio.wrap_future(self._writer.submit(work))

    async def write_brief(self, work: Callable[[Connection], T]) -> T:
        """As `write`, for a work of a few milliseconds at most: done on the event loop's thread where it can be."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.when_written(work, settle(future))
        return await future

    def when_written(self, work: Callable[[Connection], object], done: Done) -> None:
        """`write_brief` for whoever does not await: `done` hears on the event loop."""
        if self._brief is not None and self._brief.at_home():
            self._brief.write(work, done)
        else:
            tell(self._writer.submit(work, brief=True), done)

    def write_now(self, work: Callable[[Connection], T]) -> T:
        """The work's result, after its commit; blocks the calling thread."""
        return self._writer.submit(work).result()

    async def read(self, work: Callable[[Connection], T]) -> T:
        """The work's result on a connection that cannot write."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_now, work)

    def read_now(self, work: Callable[[Connection], T]) -> T:
        """The work's result on a connection that cannot write; blocks the calling thread."""
        with self._reads.connect() as connection:
            return work(connection)

    async def read_brief(self, work: Callable[[Connection], T]) -> T:
        """As `read`, for a few rows found by key: done on the event loop's thread where it can be."""
        if self._brief is not None and self._brief.at_home():
            return self._brief.read(work)
        return await self.read(work)

    def when_read(self, work: Callable[[Connection], object], done: Done) -> None:
        """`read_brief` for whoever does not await: `done` hears on the event loop, at once where it can."""
        if self._brief is None or not self._brief.at_home():
            tell(self._readers.submit(self.read_now, work), done)
            return
        try:
            result = self._brief.read(work)
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits for the work
            done(None, error)
        else:
            done(result, None)

    def close(self) -> None:
        """Commit what waits and close every connection."""
        self._writer.close()
        if self._brief is not None:
            self._brief.close()
        self._readers.shutdown()
        self._dispose()

    def _dispose(self) -> None:
        self._reads.dispose()
        self._writes.dispose()

    def _committed(self) -> None:
        for listener in self._listeners:
            listener()
