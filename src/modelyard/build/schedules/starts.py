"""Starts: what asks for one run of a declared pipeline, once for each slot, and what became of it."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, update

from modelyard.build.schedules.filling import fill
from modelyard.build.tracking import pipeline_runs
from modelyard.domain.errors import Conflict, Invalid, NotFound
from modelyard.domain.pipelines import Pipeline
from modelyard.events import log
from modelyard.kit.clock import iso, now_ms
from modelyard.kit.ids import new_id
from modelyard.store.tables.pipelines import pipeline_runs as run_rows
from modelyard.store.tables.pipelines import pipeline_starts

JOB = "start"
SCHEDULE, EVENT, DATA, HAND, BACKFILL = "schedule", "event", "data", "hand", "backfill"
WAITING, READY, RUNNING, CANCELLING = "waiting", "ready", "running", "cancelling"
FINISHED, FAILED, SKIPPED, CANCELLED = "finished", "failed", "skipped", "cancelled"
ACTIVE = (READY, RUNNING, CANCELLING)
"""Ready: handed to a server, which begins it as soon as it may."""
OPEN = (WAITING, *ACTIVE)
ID_LENGTH = 32
_T = pipeline_starts.c


@dataclass(frozen=True)
class Start:
    """slot: what it is for; at: the moment that it belongs to; cause: the event by which it is known in the log."""

    id: str
    pipeline: str
    slot: str
    kind: str
    at: int
    params: dict[str, Any]
    state: str
    actor: str
    cause: str | None
    backfill: str | None
    pipeline_run_id: str | None
    asked_at: int
    started_at: int | None
    ended_at: int | None
    error: str | None


@dataclass(frozen=True)
class Ask:
    """One wish for a start. facts: values of placeholders; params: added to those declared, or in their place."""

    kind: str
    slot: str
    at: int
    actor: str = "modelyard"
    cause: str | None = None
    params: dict[str, Any] = field(default_factory=dict[str, Any])
    facts: dict[str, Any] = field(default_factory=dict[str, Any])


def slot_of(at: int) -> str:
    """The slot of a moment: the same for a schedule and a backfill, so that neither does again what the other did."""
    return f"at/{iso(at)}"


def filled(declared: Pipeline, ask: Ask) -> dict[str, Any]:
    """The parameters of a start. Raises Invalid for a placeholder without a value."""
    return fill({**declared.params, **ask.params}, ask.at, declared.zone, ask.facts)


def ask(conn: Connection, name: str, declared: Pipeline, wish: Ask) -> Start | None:
    """The start, waiting for its turn or over already (skipped, failed); None: its slot was asked for before."""
    if by_slot(conn, name, wish.slot) is not None:
        return None
    start_id, now = new_id(), now_ms()
    told: dict[str, Any] = {"start": start_id, "kind": wish.kind, "slot": wish.slot, "at": iso(wish.at)}
    values: dict[str, Any] = {"state": WAITING, "params": {}, "ended_at": None, "error": None}
    try:
        values["params"] = told["params"] = filled(declared, wish)
        busy = _room(conn, name, declared)
    except Invalid as error:
        values |= {"state": FAILED, "error": str(error), "ended_at": now}
    else:
        if busy:
            values |= {"state": SKIPPED, "error": busy, "ended_at": now}
    if values["error"]:
        told["reason"] = values["error"]
    kinds = {WAITING: "pipeline.triggered", FAILED: "pipeline.failed", SKIPPED: "pipeline.skipped"}
    event = log.append(conn, kinds[values["state"]], f"pipeline/{name}", wish.actor, told, cause=wish.cause)
    about = {"pipeline": name, "slot": wish.slot, "kind": wish.kind, "at": wish.at, "actor": wish.actor}
    conn.execute(insert(pipeline_starts).values(id=start_id, cause=event.id, asked_at=now, **about, **values))
    return get(conn, start_id)


def _room(conn: Connection, name: str, declared: Pipeline) -> str | None:
    """Why a start is skipped; None when it may wait or run. Cancels older ones where that is declared."""
    if declared.when_busy == "queue":
        return None
    query = select(_T.id).where(_T.pipeline == name, _T.backfill.is_(None), _T.state.in_(OPEN))
    before = list(conn.execute(query.order_by(_T.asked_at)).scalars())
    if len(before) < declared.limit:
        return None
    if declared.when_busy == "skip":
        return f"busy: {len(before)} of its starts run or wait, and its limit is {declared.limit}"
    for older in before[: len(before) - declared.limit + 1]:
        if get(conn, older).state != CANCELLING:
            cancel(conn, older, "modelyard", "a newer start took its place")
    return None


def begin(conn: Connection, start_id: str) -> Start | None:
    """The start, now running with the id of its pipeline run; None when it is over, or is to be.

    A runner that died is followed by another with a run of its own, since the yard closes the one before.
    """
    start = get(conn, start_id)
    if start.state == CANCELLING:
        finish(conn, start_id, None)
    if start.state not in (READY, RUNNING):
        return None
    query = select(run_rows.c.state).where(run_rows.c.id == start.pipeline_run_id)
    run = conn.execute(query).scalar() if start.pipeline_run_id else None
    if run == pipeline_runs.FINISHED:
        finish(conn, start_id, None)
        return None
    values = {"state": RUNNING, "pipeline_run_id": new_id(), "started_at": start.started_at or now_ms()}
    conn.execute(update(pipeline_starts).where(_T.id == start_id).values(**values))
    return get(conn, start_id)


def finish(conn: Connection, start_id: str, error: str | None) -> Start:
    """The start, over: finished, failed with `error`, or cancelled if that was asked meanwhile."""
    start = get(conn, start_id)
    if start.state not in ACTIVE:
        return start
    state = CANCELLED if start.state == CANCELLING else FAILED if error else FINISHED
    values = {"state": state, "ended_at": now_ms(), "error": start.error if state == CANCELLED else error}
    conn.execute(update(pipeline_starts).where(_T.id == start_id).values(**values))
    if state == FAILED:
        told = {"start": start.id, "slot": start.slot, "reason": error}
        log.append(conn, "pipeline.failed", f"pipeline/{start.pipeline}", "modelyard", told, cause=start.cause)
    if start.backfill is not None and not count(conn, _T.backfill == start.backfill, _T.state.in_(OPEN)):
        told = {"backfill": start.backfill, **by_state(conn, start.backfill)}
        log.append(conn, "backfill.finished", f"pipeline/{start.pipeline}", "modelyard", told, cause=start.cause)
    return get(conn, start_id)


def cancel(conn: Connection, start_id: str, actor: str, why: str) -> Start:
    """The start, cancelled if it waited, or on its way to it if it runs. Raises Conflict when it is over."""
    start = get(conn, start_id)
    if start.state not in OPEN:
        raise Conflict(f"The start {start_id[:8]} is {start.state} already.")
    now = now_ms()
    waits = start.state == WAITING
    values = {"state": CANCELLED, "ended_at": now} if waits else {"state": CANCELLING}
    conn.execute(update(pipeline_starts).where(_T.id == start.id).values(error=why, **values))
    told = {"start": start.id, "slot": start.slot, "reason": why}
    log.append(conn, "pipeline.cancelled", f"pipeline/{start.pipeline}", actor, told, cause=start.cause)
    return get(conn, start.id)


def get(conn: Connection, start_id: str) -> Start:
    """The start with this id, or the only one whose id begins so. Raises NotFound."""
    this = _T.id == start_id if len(start_id) == ID_LENGTH else _T.id.startswith(start_id, autoescape=True)
    rows = conn.execute(select(pipeline_starts).where(this).limit(2)).all()
    if len(rows) != 1:
        raise NotFound(f"There is no start {start_id!r}.", remedy="List them: modelyard schedules show PIPELINE")
    return _start(rows[0])


def by_slot(conn: Connection, name: str, slot: str) -> Start | None:
    row = conn.execute(select(pipeline_starts).where(_T.pipeline == name, _T.slot == slot)).first()
    return _start(row) if row else None


def newest(conn: Connection, name: str | None = None, limit: int = 50) -> list[Start]:
    """The newest starts, of one pipeline or of all."""
    query = select(pipeline_starts).order_by(_T.asked_at.desc(), _T.at.desc()).limit(limit)
    if name is not None:
        query = query.where(_T.pipeline == name)
    return [_start(row) for row in conn.execute(query)]


def by_state(conn: Connection, backfill: str) -> dict[str, int]:
    """How many starts of a backfill are in each state."""
    query = select(_T.state, func.count()).where(_T.backfill == backfill).group_by(_T.state)
    return {state: number for state, number in conn.execute(query).all()}


def count(conn: Connection, *where: ColumnElement[bool]) -> int:
    return conn.execute(select(func.count()).select_from(pipeline_starts).where(*where)).scalar() or 0


def _start(row: Row[Any]) -> Start:
    return Start(**row._mapping)  # pyright: ignore[reportPrivateUsage] - SQLAlchemy's documented mapping accessor
