"""Backfills: one start for each moment of a range, those left out that are done."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, insert, select, update

from modelyard.build.schedules import starts
from modelyard.build.schedules.starts import Ask, Start
from modelyard.domain.errors import Conflict, Invalid, NotFound
from modelyard.domain.pipelines import Pipeline
from modelyard.domain.sections import seconds
from modelyard.events import log
from modelyard.kit.clock import iso, now_ms
from modelyard.kit.cron import parse, to_ms
from modelyard.kit.ids import new_id
from modelyard.store.tables.pipelines import backfills, pipeline_starts

MOST_DATES = 10_000
DAY_S = 86_400
_T, _B = pipeline_starts.c, backfills.c


@dataclass(frozen=True)
class Range:
    """What is asked for. every: a duration or a cron expression; empty for the pipeline's own schedule."""

    first: str
    last: str
    every: str = ""
    params: dict[str, Any] = field(default_factory=dict[str, Any])
    parallel: int = 1
    again: bool = False


@dataclass(frozen=True)
class Backfill:
    """first, last: its moments' ends; done_before: moments that were done already; states: how many are in each."""

    id: str
    pipeline: str
    first: int
    last: int
    every: str
    parallel: int
    dates: int
    done_before: int
    actor: str
    cause: str | None
    asked_at: int
    cancelled_at: int | None
    states: dict[str, int]

    @property
    def open(self) -> bool:
        return any(self.states.get(state) for state in starts.OPEN)


def moments(declared: Pipeline, wanted: Range) -> list[int]:
    """The moments of a range, oldest first. Raises Invalid for what is no range, or too many moments."""
    zone = ZoneInfo(declared.zone)
    first, last = _moment(wanted.first, zone, False), _moment(wanted.last, zone, True)
    if first > last:
        raise Invalid(f"--from {wanted.first} is after --to {wanted.last}.", remedy="Exchange them.")
    until = to_ms(last)
    stepped = _stepped(declared, wanted.every, first)
    found = list(islice((at for at in _until(stepped, until)), MOST_DATES + 1))
    if not found:
        raise Invalid("There is no moment in that range.", remedy="Widen it, or give another --every.")
    if len(found) > MOST_DATES:
        raise Invalid(f"The range has more than {MOST_DATES} moments.", remedy="Narrow it, or give a longer --every.")
    return found


def begin(conn: Connection, name: str, declared: Pipeline, wanted: Range, actor: str) -> Backfill:
    """The backfill, its starts waiting. A moment that is done is left out unless asked for `again`; one that failed,
    was skipped, or waits in an earlier backfill is this one's from now on. Raises Invalid.
    """
    if wanted.parallel < 1:
        raise Invalid(f"--parallel is {wanted.parallel}.", remedy="Give 1 or more.")
    ats = moments(declared, wanted)
    backfill, told = new_id(), {"first": iso(ats[0]), "last": iso(ats[-1]), "moments": len(ats)}
    event = log.append(
        conn, "backfill.started", f"pipeline/{name}", actor, {"backfill": backfill, **told, "again": wanted.again}
    )
    values = {"every": wanted.every, "parallel": wanted.parallel, "dates": len(ats), "actor": actor}
    values |= {"pipeline": name, "first": ats[0], "last": ats[-1], "asked_at": now_ms(), "cause": event.id}
    conn.execute(insert(backfills).values(id=backfill, done_before=0, **values))
    before = _asked_before(conn, name, ats)
    done, fresh = 0, list[dict[str, Any]]()
    for at in ats:
        wish = Ask(starts.BACKFILL, starts.slot_of(at), at, actor, event.id, wanted.params)
        held = before.get(at)
        if held is not None and held.state == starts.FINISHED and not wanted.again:
            done += 1
            continue
        row = _row(declared, wish, backfill)
        if held is None:
            fresh.append({"id": new_id(), "pipeline": name, "slot": wish.slot, **row})
        elif held.state in starts.ACTIVE:
            conn.execute(update(pipeline_starts).where(_T.id == held.id).values(backfill=backfill))
        else:
            conn.execute(update(pipeline_starts).where(_T.id == held.id).values(**row))
    if fresh:
        conn.execute(insert(pipeline_starts), fresh)
    conn.execute(update(backfills).where(_B.id == backfill).values(done_before=done))
    return get(conn, backfill)


def cancel(conn: Connection, backfill_id: str, actor: str) -> Backfill:
    """Drop what waits, stop what runs. Raises Conflict when nothing does."""
    found = get(conn, backfill_id)
    if not found.open:
        raise Conflict(f"The backfill {found.id[:8]} is over.")
    open_ones = (_T.backfill == found.id, _T.state.in_((starts.WAITING, starts.READY, starts.RUNNING)))
    for start_id in conn.execute(select(_T.id).where(*open_ones)).scalars().all():
        starts.cancel(conn, start_id, actor, "its backfill was cancelled")
    conn.execute(update(backfills).where(_B.id == found.id).values(cancelled_at=now_ms()))
    log.append(conn, "backfill.cancelled", f"pipeline/{found.pipeline}", actor, {"backfill": found.id}, found.cause)
    return get(conn, found.id)


def get(conn: Connection, backfill_id: str) -> Backfill:
    """The backfill with this id, or the only one whose id begins so. Raises NotFound."""
    query = select(backfills).where(_B.id.startswith(backfill_id, autoescape=True)).limit(2)
    rows = conn.execute(query).all()
    if len(rows) != 1:
        raise NotFound(f"There is no backfill {backfill_id!r}.")
    return Backfill(**rows[0]._mapping, states=starts.by_state(conn, rows[0].id))  # pyright: ignore[reportPrivateUsage]


def newest(conn: Connection, name: str, limit: int = 10) -> list[Backfill]:
    query = select(_B.id).where(_B.pipeline == name).order_by(_B.asked_at.desc()).limit(limit)
    return [get(conn, found) for found in conn.execute(query).scalars().all()]


def failures(conn: Connection, backfill_id: str, limit: int = 20) -> list[Start]:
    """The starts of a backfill that failed, oldest moment first."""
    query = select(_T.id).where(_T.backfill == backfill_id, _T.state == starts.FAILED).order_by(_T.at).limit(limit)
    return [starts.get(conn, found) for found in conn.execute(query).scalars().all()]


def _row(declared: Pipeline, wish: Ask, backfill: str) -> dict[str, Any]:
    about = {"kind": wish.kind, "at": wish.at, "actor": wish.actor, "cause": wish.cause, "backfill": backfill}
    fresh = {"pipeline_run_id": None, "asked_at": now_ms(), "started_at": None, "ended_at": None, "error": None}
    return {**about, **fresh, "params": starts.filled(declared, wish), "state": starts.WAITING}


def _asked_before(conn: Connection, name: str, ats: list[int]) -> dict[int, Start]:
    """The starts of these moments that exist, by moment; found by slot, which no start by hand or event shares."""
    query = select(_T.id, _T.slot).where(_T.pipeline == name, _T.at >= ats[0], _T.at <= ats[-1])
    wanted = {starts.slot_of(at): at for at in ats}
    rows = conn.execute(query).all()
    return {wanted[row.slot]: starts.get(conn, row.id) for row in rows if row.slot in wanted}


def _until(stepped: Iterator[int], until: int) -> Iterator[int]:
    for at in stepped:
        if at > until:
            return
        yield at


def _stepped(declared: Pipeline, every: str, first: datetime) -> Iterator[int]:
    """Every moment from `first` on. Raises Invalid for what is neither a duration nor a cron expression."""
    expression = every or (declared.schedule.cron if declared.schedule else "")
    if not expression:
        raise Invalid("The pipeline has no schedule to take the moments from.", remedy="Give --every, such as 1d.")
    if len(expression.split()) > 1:
        try:
            return parse(expression, declared.zone).moments(to_ms(first) - 1)
        except ValueError as error:
            raise Invalid(f"--every: {error}.", remedy="Give such as 1d or '0 3 * * *'.") from error
    length = seconds(expression)
    if length <= 0:
        raise Invalid("--every is 0.", remedy="Give such as 1d.")
    return _days(first, int(length // DAY_S)) if length % DAY_S == 0 else _fixed(first, length)


def _days(first: datetime, days: int) -> Iterator[int]:
    """Calendar days: the same time of the wall clock, also where a day has 23 or 25 hours."""
    while True:
        yield to_ms(first)
        first += timedelta(days=days)


def _fixed(first: datetime, length: float) -> Iterator[int]:
    at = to_ms(first)
    while True:
        yield at
        at += int(length * 1000)


def _moment(text: str, zone: ZoneInfo, end: bool) -> datetime:
    """A date, or date and time, in the pipeline's zone; end: a date alone means its last millisecond."""
    try:
        if len(text) == len("2026-01-01"):
            day = date.fromisoformat(text) + timedelta(days=1 if end else 0)
            return datetime(day.year, day.month, day.day, tzinfo=zone) - timedelta(milliseconds=1 if end else 0)
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid(f"{text!r} is no date.", remedy="Write such as 2026-01-31 or 2026-01-31T06:00.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)
