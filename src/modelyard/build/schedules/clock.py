"""The clock of declared pipelines: the next moment of each, kept durably, and what is made up for."""

from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from modelyard.build.schedules import starts
from modelyard.build.schedules.starts import Ask
from modelyard.domain.errors import Conflict, NotFound
from modelyard.domain.pipelines import MOST_MADE_UP, Pipeline, Schedule
from modelyard.domain.project import Project, seconds
from modelyard.events import log
from modelyard.kit.clock import iso, now_ms
from modelyard.kit.cron import Cron, parse
from modelyard.store.tables.pipelines import pipeline_schedules

_P = pipeline_schedules.c


def declare(conn: Connection, project: Project) -> None:
    """Keep a row for each declared pipeline; a schedule that is new or changed begins with its next moment."""
    conn.execute(delete(pipeline_schedules).where(_P.pipeline.not_in(project.pipelines)))
    for name, declared in project.pipelines.items():
        timed = declared.schedule
        wanted = {"cron": timed.cron if timed else None, "zone": timed.zone if timed else None}
        row = _row(conn, name)
        values = {**wanted, "next_at": _cron(timed).after(now_ms()) if timed else None}
        if row is None:
            conn.execute(insert(pipeline_schedules).values(pipeline=name, paused=False, **values))
        elif (row.cron, row.zone) != (wanted["cron"], wanted["zone"]):
            conn.execute(update(pipeline_schedules).where(_P.pipeline == name).values(**values))


def any_due(conn: Connection, project: Project, now: int | None = None) -> bool:
    """Whether `start_due` has something to do; asked on a reading connection."""
    return bool(_due(conn, project, now_ms() if now is None else now))


def start_due(conn: Connection, project: Project, now: int | None = None) -> int:
    """How many moments came due and were asked for; each is asked for in the transaction that moves the clock on."""
    now = now_ms() if now is None else now
    count = 0
    for row in _due(conn, project, now):
        declared = project.pipelines[row.pipeline]
        if declared.schedule is None:
            continue
        cron = _cron(declared.schedule)
        moments = cron.between(row.next_at - 1, now, MOST_MADE_UP)
        wanted = made_up(declared.schedule, moments, now)
        if len(wanted) < len(moments):
            _tell_missed(conn, row.pipeline, [each for each in moments if each not in wanted])
        for at in wanted:
            wish = Ask(starts.SCHEDULE, starts.slot_of(at), at)
            count += starts.ask(conn, row.pipeline, declared, wish) is not None
        conn.execute(update(pipeline_schedules).where(_P.pipeline == row.pipeline).values(next_at=cron.after(now)))
    return count


def made_up(schedule: Schedule, moments: list[int], now: int) -> list[int]:
    """Of the moments that came since the last look, those that are started: the punctual, and misfires by policy."""
    punctual_from = now - seconds(schedule.grace) * 1000
    late = [at for at in moments if at < punctual_from]
    punctual = moments[len(late) :]
    if schedule.misfire == "all":
        return late[-schedule.most :] + punctual
    if schedule.misfire == "once" and not punctual:
        return late[-1:]
    return punctual


def upcoming(row: Row[Any], declared: Pipeline, limit: int) -> list[int]:
    """The next moments of a pipeline; none when it is paused or has no schedule."""
    if declared.schedule is None or row.paused or row.next_at is None:
        return []
    moments = _cron(declared.schedule).moments(row.next_at - 1)
    return [next(moments) for _ in range(limit)]


def state(conn: Connection, name: str) -> Row[Any]:
    """The pipeline's row: next_at, paused, paused_by, paused_why. Raises NotFound."""
    row = _row(conn, name)
    if row is None:
        raise NotFound(f"No pipeline {name!r} is declared.", remedy=f"Add [pipelines.{name}] to modelyard.toml.")
    return row


def pause(conn: Connection, name: str, actor: str, why: str) -> None:
    """Start it no more by itself. Raises Conflict when it is paused already."""
    if state(conn, name).paused:
        raise Conflict(f"{name} is paused already.", remedy=f"Resume it: modelyard schedules resume {name}")
    values = {"paused": True, "paused_by": actor, "paused_why": why}
    conn.execute(update(pipeline_schedules).where(_P.pipeline == name).values(**values))
    log.append(conn, "schedule.paused", f"pipeline/{name}", actor, {"reason": why})


def resume(conn: Connection, project: Project, name: str, actor: str) -> None:
    """Start it by itself again, from its next moment on. Raises Conflict when it is not paused."""
    if not state(conn, name).paused:
        raise Conflict(f"{name} is not paused.")
    timed = project.pipelines[name].schedule
    next_at = _cron(timed).after(now_ms()) if timed else None
    values = {"paused": False, "paused_by": None, "paused_why": None, "next_at": next_at}
    conn.execute(update(pipeline_schedules).where(_P.pipeline == name).values(**values))
    log.append(conn, "schedule.resumed", f"pipeline/{name}", actor)


def paused(conn: Connection, name: str) -> bool:
    row = _row(conn, name)
    return row is not None and row.paused


def _due(conn: Connection, project: Project, now: int) -> list[Row[Any]]:
    if not project.pipelines:
        return []
    due = (_P.next_at <= now, _P.paused.is_(False), _P.pipeline.in_(project.pipelines))
    return list(conn.execute(select(pipeline_schedules).where(*due)).all())


def _tell_missed(conn: Connection, name: str, missed: list[int]) -> None:
    told = {"reason": "misfire", "missed": len(missed), "first": iso(missed[0]), "last": iso(missed[-1])}
    log.append(conn, "pipeline.skipped", f"pipeline/{name}", "modelyard", told)


def _cron(schedule: Schedule) -> Cron:
    return parse(schedule.cron, schedule.zone)


def _row(conn: Connection, name: str) -> Row[Any] | None:
    return conn.execute(select(pipeline_schedules).where(_P.pipeline == name)).first()
