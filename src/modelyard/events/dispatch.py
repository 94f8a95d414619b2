"""Subscribers: functions of (connection, event), run once for each event, in order."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, insert, select, update

from modelyard.events import log
from modelyard.store.tables.events import cursors, events

Handler = Callable[[Connection, log.Event], None]
BATCH = 100
_NEWEST = select(func.max(events.c.seq))
_CURSORS = select(cursors.c.subscriber, cursors.c.seq)


@dataclass
class Dispatcher:
    """Runs every subscriber over the events that it has not seen.

    A handler's changes and its cursor commit in one transaction: exactly once. What must happen outside the database
    is left to a job (`events.jobs.enqueue`).
    """

    subscribers: dict[str, tuple[frozenset[str], Handler]] = field(
        default_factory=dict[str, tuple[frozenset[str], Handler]]
    )

    def subscribe(self, name: str, types: Iterable[str], handler: Handler) -> None:
        self.subscribers[name] = (frozenset(types), handler)

    def behind(self, conn: Connection, name: str) -> bool:
        """Whether the log holds events that `name` has not gone through yet."""
        return name in self.lagging(conn)

    def lagging(self, conn: Connection) -> list[str]:
        """The subscribers that have not gone through the whole log, by two queries however many they are."""
        newest = conn.execute(_NEWEST).scalar() or 0
        seen = {row[0]: row[1] for row in conn.execute(_CURSORS)}
        return [name for name in self.subscribers if seen.get(name, 0) < newest]

    def run_pending(self, conn: Connection, name: str) -> int:
        """How many events `name` was handed, in the caller's write transaction; 0 when it is up to date."""
        types, handler = self.subscribers[name]
        seen = conn.execute(select(cursors.c.seq).where(cursors.c.subscriber == name)).scalar()
        if seen is None:
            seen = 0
            conn.execute(insert(cursors).values(subscriber=name, seq=0))
        newest = conn.execute(_NEWEST).scalar() or 0
        batch = log.read(conn, after=seen, types=types, limit=BATCH)
        for event in batch:
            handler(conn, event)
        reached = batch[-1].seq if len(batch) == BATCH else newest
        if reached != seen:
            conn.execute(update(cursors).where(cursors.c.subscriber == name).values(seq=reached))
        return len(batch)
