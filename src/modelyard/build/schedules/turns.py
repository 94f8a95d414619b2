"""Whose turn it is: which waiting starts may run now, within the limits of pipelines and backfills."""

from sqlalchemy import Connection, func, select, update

from modelyard.build.schedules import starts
from modelyard.domain.project import Project
from modelyard.events import jobs
from modelyard.store.tables.pipelines import backfills, pipeline_starts

_T = pipeline_starts.c


def releasable(conn: Connection, project: Project) -> list[tuple[str, str | None]]:
    """(id, cause) of the waiting starts that may run now; of each pipeline and each backfill the oldest first."""
    groups = select(_T.pipeline, _T.backfill).where(_T.state == starts.WAITING).distinct()
    found: list[tuple[str, str | None]] = []
    for name, backfill in conn.execute(groups).all():
        if name not in project.pipelines:
            continue
        here = (_T.pipeline == name, _T.backfill.is_(None) if backfill is None else _T.backfill == backfill)
        free = _limit(conn, project, name, backfill) - starts.count(conn, *here, _T.state.in_(starts.ACTIVE))
        if free > 0:
            order = (_T.asked_at, _T.at) if backfill is None else (_T.at,)
            query = select(_T.id, _T.cause).where(*here, _T.state == starts.WAITING).order_by(*order).limit(free)
            found += [(start_id, cause) for start_id, cause in conn.execute(query)]
    return found


def release(conn: Connection, project: Project) -> int:
    """How many starts were handed to the servers, each with its job."""
    found = releasable(conn, project)
    for start_id, cause in found:
        conn.execute(update(pipeline_starts).where(_T.id == start_id).values(state=starts.READY))
        jobs.enqueue(conn, starts.JOB, {"start": start_id}, cause=cause)
    return len(found)


def any_waiting(conn: Connection, project: Project) -> bool:
    """Whether `release` has something to do; asked on a reading connection."""
    waiting = select(func.count()).where(_T.state == starts.WAITING)
    return bool(conn.execute(waiting).scalar()) and bool(releasable(conn, project))


def _limit(conn: Connection, project: Project, name: str, backfill: str | None) -> int:
    if backfill is None:
        return project.pipelines[name].limit
    return conn.execute(select(backfills.c.parallel).where(backfills.c.id == backfill)).scalar() or 1
