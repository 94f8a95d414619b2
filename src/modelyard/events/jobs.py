"""Durable jobs: work outside the database, at least once, by lease."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, or_, select, update

from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id
from modelyard.kit.processes import identity, is_gone
from modelyard.store.tables.events import jobs

LEASE_MS = 60_000
MOST_ATTEMPTS = 5


@dataclass(frozen=True)
class Job:
    id: str
    kind: str
    payload: dict[str, Any]
    cause: str | None
    attempts: int


def enqueue(
    conn: Connection,
    kind: str,
    payload: dict[str, Any],
    cause: str | None = None,
    run_after: int | None = None,
) -> str:
    """The id of a job that waits to run; it is durable when the caller's transaction commits."""
    now = now_ms()
    job_id = new_id()
    conn.execute(
        insert(jobs).values(
            id=job_id,
            kind=kind,
            payload=payload,
            state="waiting",
            cause=cause,
            created_at=now,
            run_after=now if run_after is None else run_after,
            lease_until=None,
            attempts=0,
        )
    )
    return job_id


def pending(conn: Connection, kind: str, cause: str) -> bool:
    """Whether a job of this kind and cause waits or runs."""
    held = jobs.c.state.in_(["waiting", "running"])
    query = select(jobs.c.id).where(jobs.c.kind == kind, jobs.c.cause == cause, held).limit(1)
    return conn.execute(query).first() is not None


def claim(conn: Connection, kinds: list[str], now: int | None = None) -> Job | None:
    """The next job that is due, leased to the caller; also one whose holder died and let its lease lapse."""
    now = now_ms() if now is None else now
    query = select(jobs).where(jobs.c.kind.in_(kinds), _due(now)).order_by(jobs.c.run_after).limit(1)
    row = conn.execute(query.with_for_update(skip_locked=True)).first()
    if row is None:
        return None
    conn.execute(
        update(jobs)
        .where(jobs.c.id == row.id)
        .values(state="running", lease_until=now + LEASE_MS, owner=identity(), attempts=row.attempts + 1)
    )
    return Job(row.id, row.kind, row.payload, row.cause, row.attempts + 1)


def any_due(conn: Connection, kinds: list[str], now: int | None = None) -> bool:
    """Whether `claim` would find a job; asked on a reading connection, so that an idle yard writes nothing."""
    query = select(jobs.c.id).where(jobs.c.kind.in_(kinds), _due(now_ms() if now is None else now)).limit(1)
    return conn.execute(query).first() is not None


def release_orphans(conn: Connection) -> int:
    """How many jobs were let go because the process that ran them has died on this machine; no lease is awaited."""
    held = select(jobs.c.id, jobs.c.owner).where(jobs.c.state == "running", jobs.c.lease_until >= now_ms())
    orphans = [row.id for row in conn.execute(held) if row.owner and is_gone(row.owner)]
    for job_id in orphans:
        conn.execute(update(jobs).where(jobs.c.id == job_id).values(lease_until=0))
    return len(orphans)


def _due(now: int) -> ColumnElement[bool]:
    return or_(
        (jobs.c.state == "waiting") & (jobs.c.run_after <= now),
        (jobs.c.state == "running") & (jobs.c.lease_until < now),
    )


def renew(conn: Connection, job_id: str) -> None:
    """Keep the lease for another LEASE_MS."""
    conn.execute(update(jobs).where(jobs.c.id == job_id).values(lease_until=now_ms() + LEASE_MS))


def finish(conn: Connection, job_id: str) -> None:
    conn.execute(update(jobs).where(jobs.c.id == job_id).values(state="done", lease_until=None, owner=None))


def fail(conn: Connection, job: Job, error: str, retry: bool = True) -> None:
    """Note the error; the job waits and runs again (backing off 2, 4, 8 ... s) up to MOST_ATTEMPTS times."""
    again = retry and job.attempts < MOST_ATTEMPTS
    values: dict[str, Any] = {
        "state": "waiting" if again else "failed",
        "error": error,
        "lease_until": None,
        "owner": None,
    }
    if again:
        values["run_after"] = now_ms() + 1000 * 2**job.attempts
    conn.execute(update(jobs).where(jobs.c.id == job.id).values(**values))


def forget(conn: Connection, before: int) -> int:
    """How many jobs that ended, and that came due before this moment, were removed."""
    ended = jobs.c.state.in_(["done", "failed"]) & (jobs.c.run_after < before)
    return conn.execute(delete(jobs).where(ended)).rowcount
