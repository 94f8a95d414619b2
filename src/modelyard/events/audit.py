"""Verification and export of the event chain."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from modelyard.events import log


@dataclass(frozen=True)
class Verification:
    """What `modelyard audit verify` answers: `broken_at` is the seq of the first broken record."""

    records: int
    head: str
    broken_at: int | None = None
    reason: str = ""

    @property
    def intact(self) -> bool:
        return self.broken_at is None


def verify(conn: Connection) -> Verification:
    """Walk the chain and name the first record that is changed, missing or out of order."""
    previous, seen = log.GENESIS, 0
    for event in log.walk(conn):
        body = {k: v for k, v in asdict(event).items() if k not in ("seq", "prev_hash", "hash")}
        if event.prev_hash != previous:
            reason = "it does not hold the digest of the record before it (one was changed or removed)"
            return Verification(seen, previous, event.seq, reason)
        if log.chain_hash(previous, body) != event.hash:
            return Verification(seen, previous, event.seq, "its content does not match its digest")
        previous, seen = event.hash, seen + 1
    return Verification(seen, previous)


def verify_lines(lines: Iterable[str]) -> Verification:
    """Walk an export; name the first record that is changed, missing, out of order or no record at all."""
    previous, seen = log.GENESIS, 0
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            event = json.loads(text)
            sequence = int(event["sequence"])
            body = {key: event[key] for key in ("id", "subject", "actor", "cause", "data")}
            body["type"] = str(event["type"]).removeprefix("dev.modelyard.")
            body["time"] = _milliseconds(event["time"])
            stored = event["hash"]
            before = event["prevhash"]
        except (ValueError, KeyError, TypeError) as error:
            return Verification(seen, previous, number, f"line {number} is not a record ({type(error).__name__})")
        if before != previous:
            reason = "it does not hold the digest of the record before it (one was changed or removed)"
            return Verification(seen, previous, sequence, reason)
        if log.chain_hash(previous, body) != stored:
            return Verification(seen, previous, sequence, "its content does not match its digest")
        previous, seen = stored, seen + 1
    return Verification(seen, previous)


def _milliseconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1))


def line(event: log.Event) -> str:
    """One record of the exported chain: a CloudEvent as one line of JSON."""
    return json.dumps(event.as_cloudevent(), separators=(",", ":"), ensure_ascii=False)
