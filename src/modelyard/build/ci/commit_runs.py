"""Commit runs: the pipelines of one pushed commit; of one repository the newest commit wins."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from modelyard.build.ci.webhooks import Push
from modelyard.domain.errors import NotFound
from modelyard.events import jobs, log
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id
from modelyard.store.tables.pipelines import commit_runs

JOB = "commit"
WAITING, RUNNING, PASSED, FAILED, SUPERSEDED = "waiting", "running", "passed", "failed", "superseded"
ACTIVE = (WAITING, RUNNING)


@dataclass(frozen=True)
class CommitRun:
    id: str
    repository: str
    branch: str
    commit: str
    state: str
    cause: str | None
    pushed_at: int
    ended_at: int | None
    error: str | None


def receive(conn: Connection, repository: str, push: Push) -> CommitRun | None:
    """The run that a push starts, with its job; None when this very push was received before (a replay).

    Every run of the repository that waits or runs is superseded: its job ends when it next looks.
    """
    seen = select(commit_runs.c.id).where(
        commit_runs.c.repository == repository, commit_runs.c.delivery == push.delivery
    )
    if conn.execute(seen).first() is not None:
        return None
    subject, data = f"repository/{repository}", {"branch": push.branch, "commit": push.commit}
    event = log.append(conn, "commit.pushed", subject, "modelyard", data)
    for older in of_repository(conn, repository, ACTIVE):
        conn.execute(
            update(commit_runs).where(commit_runs.c.id == older.id).values(state=SUPERSEDED, ended_at=now_ms())
        )
        told = {"branch": older.branch, "commit": older.commit, "by": push.commit}
        log.append(conn, "commit.superseded", subject, "modelyard", told, cause=event.id)
    run_id = new_id()
    values = {"repository": repository, "delivery": push.delivery, "pushed_at": now_ms(), "cause": event.id, **data}
    conn.execute(insert(commit_runs).values(id=run_id, state=WAITING, **values))
    jobs.enqueue(conn, JOB, {"commit_run": run_id}, cause=event.id)
    return get(conn, run_id)


def begin(conn: Connection, run_id: str) -> bool:
    """Whether the run may go on: it waits, or its earlier runner died; never when a newer commit took its place."""
    active = commit_runs.c.state.in_(ACTIVE)
    return bool(
        conn.execute(update(commit_runs).where(commit_runs.c.id == run_id, active).values(state=RUNNING)).rowcount
    )


def finish(conn: Connection, run_id: str, error: str | None) -> bool:
    """Record how the run ended; False when a newer commit had superseded it meanwhile."""
    found = get(conn, run_id)
    state = FAILED if error else PASSED
    query = update(commit_runs).where(commit_runs.c.id == run_id, commit_runs.c.state == RUNNING)
    if not conn.execute(query.values(state=state, ended_at=now_ms(), error=error)).rowcount:
        return False
    data = {"branch": found.branch, "commit": found.commit, **({"reason": error} if error else {})}
    log.append(conn, f"commit.{state}", f"repository/{found.repository}", "modelyard", data, cause=found.cause)
    return True


def get(conn: Connection, run_id: str) -> CommitRun:
    row = conn.execute(select(commit_runs).where(commit_runs.c.id == run_id)).first()
    if row is None:
        raise NotFound(f"There is no commit run {run_id!r}.")
    return _commit_run(row)


def of_repository(
    conn: Connection, repository: str, states: tuple[str, ...] = (), limit: int = 50
) -> list[CommitRun]:
    """A repository's runs, newest first."""
    query = select(commit_runs).where(commit_runs.c.repository == repository)
    if states:
        query = query.where(commit_runs.c.state.in_(states))
    query = query.order_by(commit_runs.c.pushed_at.desc(), commit_runs.c.id).limit(limit)
    return [_commit_run(row) for row in conn.execute(query)]


def _commit_run(row: Row[Any]) -> CommitRun:
    return CommitRun(
        row.id,
        row.repository,
        row.branch,
        row._mapping["commit"],  # pyright: ignore[reportPrivateUsage]
        row.state,
        row.cause,
        row.pushed_at,
        row.ended_at,
        row.error,
    )
