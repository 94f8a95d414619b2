"""The event log: immutable facts, each holding the digest of the one before."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select

from modelyard.domain.errors import Invalid
from modelyard.kit.clock import iso, now_ms
from modelyard.kit.hashing import digest_json
from modelyard.kit.ids import new_id
from modelyard.store.statements import Statement
from modelyard.store.tables.events import events
from modelyard.store.writer import WAKE

GENESIS = "0" * 64
_LAST_HASH = Statement(select(events.c.hash).where(events.c.seq == select(func.max(events.c.seq)).scalar_subquery()))
_APPEND = Statement(
    insert(events).values({c.name: bindparam(c.name) for c in events.c if c.name != "seq"}).returning(events.c.seq)
)


@dataclass(frozen=True)
class Event:
    """A fact in the past tense. `cause` is the id of the event that led to it."""

    seq: int
    id: str
    time: int
    type: str
    subject: str
    actor: str
    cause: str | None
    data: dict[str, Any]
    prev_hash: str
    hash: str

    def as_cloudevent(self) -> dict[str, Any]:
        """The event as CloudEvents 1.0 JSON with our extension attributes (actor, cause, hashes)."""
        return {
            "specversion": "1.0",
            "id": self.id,
            "source": "/modelyard",
            "type": f"dev.modelyard.{self.type}",
            "subject": self.subject,
            "time": iso(self.time),
            "datacontenttype": "application/json",
            "data": self.data,
            "sequence": str(self.seq),
            "actor": self.actor,
            "cause": self.cause,
            "prevhash": self.prev_hash,
            "hash": self.hash,
        }


def append(
    conn: Connection,
    type: str,
    subject: str,
    actor: str,
    data: dict[str, Any] | None = None,
    cause: str | None = None,
    time: int | None = None,
) -> Event:
    """The event, written in the caller's transaction: the change and its record commit together or not at all.

    Write transactions run one at a time (`store.engine`), so that the chain has one order.

    Raises Invalid when `type` is not in the catalogue.
    """
    from modelyard.events.catalogue import CATALOGUE, QUIET

    if type not in CATALOGUE:
        raise Invalid(f"{type!r} is not an event of the catalogue.", remedy="Add it to events/catalogue.py.")
    last = _LAST_HASH.first(conn, {})
    previous: str = last[0] if last else GENESIS
    body: dict[str, Any] = {
        "id": new_id(),
        "time": now_ms() if time is None else time,
        "type": type,
        "subject": subject,
        "actor": actor,
        "cause": cause,
        "data": data or {},
    }
    digest = chain_hash(previous, body)
    stored = {**body, "data": json.dumps(body["data"]), "prev_hash": previous, "hash": digest}
    seq = _APPEND.all(conn, stored)[0][0]  # all: SQLite's statement must be over at the commit
    if type not in QUIET:
        conn.info[WAKE] = True
    return Event(seq=seq, **body, prev_hash=previous, hash=digest)


def chain_hash(previous: str, body: dict[str, Any]) -> str:
    """SHA-256 over the previous record's digest and this record's content."""
    return digest_json([previous, body])


def read(
    conn: Connection,
    after: int = 0,
    types: Iterable[str] = (),
    subject: str | None = None,
    limit: int = 1000,
    newest_first: bool = False,
    before: int | None = None,
) -> list[Event]:
    """Events with seq > `after` (and < `before`), filtered, oldest first unless asked otherwise."""
    query = select(events).where(events.c.seq > after)
    if before is not None:
        query = query.where(events.c.seq < before)
    wanted = list(types)
    if wanted:
        query = query.where(events.c.type.in_(wanted))
    if subject is not None:
        query = query.where(events.c.subject == subject)
    query = query.order_by(events.c.seq.desc() if newest_first else events.c.seq).limit(limit)
    return [_event(row) for row in conn.execute(query)]


def get(conn: Connection, event_id: str) -> Event | None:
    row = conn.execute(select(events).where(events.c.id == event_id)).first()
    return _event(row) if row else None


def causes(conn: Connection, event_id: str) -> list[Event]:
    """The chain that led to an event, first cause first, the event itself last."""
    chain: list[Event] = []
    wanted: str | None = event_id
    while wanted and (event := get(conn, wanted)) and all(event.id != seen.id for seen in chain):
        chain.append(event)
        wanted = event.cause
    return chain[::-1]


def consequences(conn: Connection, event_id: str) -> list[Event]:
    """Every event that this one led to, directly or not, in the order of the log."""
    found: dict[str, Event] = {}
    frontier = [event_id]
    while frontier:
        rows = [_event(row) for row in conn.execute(select(events).where(events.c.cause.in_(frontier)))]
        fresh = [event for event in rows if event.id not in found]
        found |= {event.id: event for event in fresh}
        frontier = [event.id for event in fresh]
    return sorted(found.values(), key=lambda event: event.seq)


def walk(conn: Connection, page: int = 1000) -> Iterator[Event]:
    """Every event, oldest first, in constant memory."""
    after = 0
    while batch := read(conn, after=after, limit=page):
        yield from batch
        after = batch[-1].seq


def _event(row: Row[Any]) -> Event:
    return Event(**row._mapping)  # pyright: ignore[reportPrivateUsage] - SQLAlchemy's documented mapping accessor
