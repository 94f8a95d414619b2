"""Schedules: jobs that come due again and again."""

from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from modelyard.events import jobs
from modelyard.kit.clock import now_ms
from modelyard.store.tables.events import jobs as job_rows
from modelyard.store.tables.events import schedules


def put(conn: Connection, name: str, every_s: float, kind: str, payload: dict[str, Any]) -> None:
    """Make or change the schedule `name`; its next time is kept when only the payload changes."""
    found = conn.execute(select(schedules).where(schedules.c.name == name)).first()
    if found is None:
        first = now_ms() + int(every_s * 1000)
        values = {"name": name, "every_s": every_s, "next_at": first, "kind": kind, "payload": payload}
        conn.execute(insert(schedules).values(values))
        return
    next_at = min(found.next_at, now_ms() + int(every_s * 1000))
    values = {"every_s": every_s, "kind": kind, "payload": payload, "next_at": next_at}
    conn.execute(update(schedules).where(schedules.c.name == name).values(values))


def keep_only(conn: Connection, names: set[str]) -> None:
    """Remove every schedule whose name is not in `names`."""
    conn.execute(delete(schedules).where(schedules.c.name.not_in(names)))


def any_due(conn: Connection, now: int | None = None) -> bool:
    """Whether `enqueue_due` has something to do."""
    due = schedules.c.next_at <= (now_ms() if now is None else now)
    return conn.execute(select(schedules.c.name).where(due).limit(1)).first() is not None


def enqueue_due(conn: Connection, now: int | None = None) -> int:
    """How many jobs came due; a schedule whose last job still waits or runs adds none (no pile-up)."""
    now = now_ms() if now is None else now
    count = 0
    for row in conn.execute(select(schedules).where(schedules.c.next_at <= now)).all():
        conn.execute(
            update(schedules).where(schedules.c.name == row.name).values(next_at=now + int(row.every_s * 1000))
        )
        payload = {**row.payload, "schedule": row.name}
        pending = conn.execute(
            select(job_rows.c.payload).where(
                job_rows.c.kind == row.kind, job_rows.c.state.in_(["waiting", "running"])
            )
        )
        if any(other.get("schedule") == row.name for other in pending.scalars()):
            continue
        jobs.enqueue(conn, row.kind, payload)
        count += 1
    return count
