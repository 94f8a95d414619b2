"""Subscribers: functions of (connection, event), run once for each event, in order."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, insert, select, update

from modelyard.events import log
from modelyard.store.tables.events import cursors, events

Handler = Callable[[Connection, log.Event], None]
BATCH = 100
_NEWEST = select(func.max(events.c.seq))


@dataclass
class Dispatcher:
    """Runs every subscriber over the events that it has not seen.

    A handler's changes and its cursor commit in one transaction: exactly once. What must happen outside the database
    is left to a job (`events.jobs.enqueue`).
    """

    subscribers: dict[str, tuple[frozenset[str], Handler]] = field(
        default_factory=dict[str, tuple[frozenset[str], Handler]]
    )

    looked_through: int = 0
    """Up to this seq no subscriber of this process waits for an event."""

    def subscribe(self, name: str, types: Iterable[str], handler: Handler) -> None:
        self.subscribers[name] = (frozenset(types), handler)

    def behind(self, conn: Connection, name: str) -> bool:
        """Whether the log holds an event for `name` that it was not handed yet."""
        types, _ = self.subscribers[name]
        seen = conn.execute(select(cursors.c.seq).where(cursors.c.subscriber == name)).scalar() or 0
        waiting = select(events.c.seq).where(events.c.seq > seen, events.c.type.in_(types)).limit(1)
        return conn.execute(waiting).first() is not None

    def lagging(self, conn: Connection) -> list[str]:
        """The subscribers that an event waits for; what was looked through once is not looked at again."""
        newest = conn.execute(_NEWEST).scalar() or 0
        if newest == self.looked_through:
            return []
        fresh = set(
            conn.execute(select(events.c.type).where(events.c.seq > self.looked_through).distinct()).scalars()
        )
        names = [name for name, (types, _) in self.subscribers.items() if types & fresh and self.behind(conn, name)]
        if not names:
            self.looked_through = newest
        return names

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
