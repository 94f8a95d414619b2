"""Pipeline runs: one execution of a pipeline, with the state of its steps."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from modelyard.domain.errors import NotFound
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id
from modelyard.store.tables.pipelines import pipeline_runs, step_runs

RUNNING, FINISHED, FAILED = "running", "finished", "failed"


@dataclass(frozen=True)
class StepRun:
    step: str
    state: str
    key: str
    seconds: float
    ended_at: int
    error: str | None


@dataclass(frozen=True)
class PipelineRun:
    id: str
    pipeline: str
    params: dict[str, Any]
    code: dict[str, Any]
    state: str
    started_by: str
    cause: str | None
    started_at: int
    ended_at: int | None
    error: str | None
    steps: tuple[StepRun, ...] = ()


def start(
    conn: Connection, pipeline: str, params: dict[str, Any], code: dict[str, Any], *, actor: str, cause: str | None
) -> str:
    """The id of the pipeline run that starts."""
    run_id = new_id()
    values = {"pipeline": pipeline, "params": params, "code": code, "started_by": actor, "cause": cause}
    conn.execute(insert(pipeline_runs).values(id=run_id, **values, state=RUNNING, started_at=now_ms()))
    data = {"pipeline": pipeline, "params": params}
    log.append(conn, "pipeline-run.started", f"pipeline-run/{run_id}", actor, data, cause=cause)
    return run_id


def note_step(
    conn: Connection, run_id: str, step: str, state: str, key: str, seconds: float, error: str | None = None
) -> None:
    """Record that a step finished, was cached, or failed."""
    get(conn, run_id)
    values = {"state": state, "key": key, "seconds": seconds, "ended_at": now_ms(), "error": error}
    where = (step_runs.c.pipeline_run_id == run_id, step_runs.c.step == step)
    if not conn.execute(update(step_runs).where(*where).values(**values)).rowcount:
        conn.execute(insert(step_runs).values(pipeline_run_id=run_id, step=step, **values))


def finish(conn: Connection, run_id: str, error: str | None, *, actor: str) -> None:
    """End the pipeline run: finished, or failed with its error."""
    found = get(conn, run_id)
    state = FAILED if error else FINISHED
    conn.execute(
        update(pipeline_runs).where(pipeline_runs.c.id == run_id).values(state=state, ended_at=now_ms(), error=error)
    )
    data = {"pipeline": found.pipeline, "steps": {step.step: step.state for step in found.steps}}
    if error:
        data["reason"] = error
    log.append(conn, f"pipeline-run.{state}", f"pipeline-run/{run_id}", actor, data, cause=found.cause)


def get(conn: Connection, run_id: str) -> PipelineRun:
    row = conn.execute(select(pipeline_runs).where(pipeline_runs.c.id == run_id)).first()
    if row is None:
        raise NotFound(f"There is no pipeline run {run_id!r}.")
    return _run(conn, row)


def newest(conn: Connection, limit: int = 50) -> list[PipelineRun]:
    query = select(pipeline_runs).order_by(pipeline_runs.c.started_at.desc()).limit(limit)
    return [_run(conn, row) for row in conn.execute(query).all()]


def _run(conn: Connection, row: Row[Any]) -> PipelineRun:
    query = select(step_runs).where(step_runs.c.pipeline_run_id == row.id).order_by(step_runs.c.ended_at)
    steps = tuple(StepRun(s.step, s.state, s.key, s.seconds, s.ended_at, s.error) for s in conn.execute(query))
    return PipelineRun(**row._mapping, steps=steps)  # pyright: ignore[reportPrivateUsage]
