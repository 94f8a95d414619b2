"""The one writer: commits in groups, so that many small writes cost one transaction."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from modelyard.domain.errors import Unavailable

Work = Callable[[Connection], Any]
Waiting = tuple[Work, "Future[Any]", bool]
"""A work, its answer, and whether it is brief: then subscribers hear of it only when it sets `WAKE`."""
GROUP = 256
"""Most works in one transaction: bounds how long the first of them waits for the last."""
WAKE = "modelyard.wake"
"""Set in a connection's `info` by what subscribers shall hear of at once; without it a brief write wakes nobody."""


class Writer:
    """A thread that owns the write connection, and a short cut for brief works.

    A work is a function of the connection alone: when one of a group raises, the group is rolled back and each work
    runs again in a transaction of its own, so a work may run twice but its effects are committed once.
    """

    def __init__(self, engine: Engine, after_commit: Callable[[], None] | None = None) -> None:
        self._engine = engine
        self._after_commit = after_commit
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._closed = False
        self.turn = threading.Lock()
        """Held by whoever writes now, this thread or a `BriefWriter`."""
        self._thread = threading.Thread(target=self._loop, name="modelyard-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work, *, brief: bool = False) -> "Future[Any]":
        """A future that completes after the commit. Raises Unavailable when the writer is closed."""
        if self._closed:
            raise Unavailable("The store is closed.")
        future: Future[Any] = Future()
        self._queue.put((work, future, brief))
        return future

    def close(self) -> None:
        """Finish what waits, then stop."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while True:
            taken, last = self._take()
            group = [item for item in taken if item[1].set_running_or_notify_cancel()]
            if group:
                with self.turn:
                    woken = self._commit(group)
                if woken and self._after_commit:
                    self._after_commit()
            if last:
                return

    def _take(self) -> tuple[list[Waiting], bool]:
        """All that waits now, at least one; and whether the writer shall stop after it."""
        item = self._queue.get()
        group: list[Waiting] = []
        while item is not None:
            group.append(item)
            if len(group) >= GROUP:
                return group, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _commit(self, group: Sequence[Waiting]) -> bool:
        """Whether subscribers shall hear: what fails wakes nobody, or a loop that fails would wake itself."""
        try:
            with self._engine.begin() as connection:
                connection.info.pop(WAKE, None)
                results = [work(connection) for work, *_ in group]
                woken = connection.info.pop(WAKE, False)
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits on the future
            if len(group) == 1 or _connection_lost(error):  # the lost group may have committed: never run it again
                for _, future, _ in group:
                    future.set_exception(_told(error))
                return False
            return any([self._commit([single]) for single in group])  # a list: every one of them runs
        for (_, future, _), result in zip(group, results, strict=True):
            future.set_result(result)
        return woken or not all(brief for *_, brief in group)


def _connection_lost(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _told(error: BaseException) -> BaseException:
    if not _connection_lost(error):
        return error
    return Unavailable(
        "The connection to the database was lost; the write may or may not have happened.",
        remedy="Look whether it did, then retry.",
    )
