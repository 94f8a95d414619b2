"""Pipeline runs: one execution of a pipeline, with the state of its steps."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from modelyard.build.tracking import step_runs as step_runs_of
from modelyard.domain.errors import NotFound
from modelyard.events import log
from modelyard.store.tables.pipelines import pipeline_runs, step_runs

RUNNING, FINISHED, FAILED = "running", "finished", "failed"


@dataclass(frozen=True)
class StepRun:
    step: str
    state: str
    key: str
    seconds: float
    started_at: int
    ended_at: int | None
    error: str | None
    details: dict[str, Any]
    """reason, params, metrics, inputs and outputs by digest, cpu_seconds, peak_mb, log: as far as they are known."""


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


def put(conn: Connection, run_id: str, record: dict[str, Any], *, actor: str) -> None:
    """Take in the record of a pipeline run as it is by now; taking in the same twice is taking it in once.

    When it is over, it is tracked: a run, unless its registration made one, and a child run a step that ran.
    """
    row = conn.execute(select(pipeline_runs).where(pipeline_runs.c.id == run_id)).first()
    if row is not None and row.state != RUNNING:
        return
    values = {key: record[key] for key in ("pipeline", "params", "code", "cause", "started_at", "state")}
    values |= {"ended_at": record.get("ended_at"), "error": record.get("error")}
    if row is None:
        conn.execute(insert(pipeline_runs).values(id=run_id, started_by=actor, **values))
        data = {"pipeline": record["pipeline"], "params": record["params"]}
        log.append(conn, "pipeline-run.started", f"pipeline-run/{run_id}", actor, data, cause=record["cause"])
    else:
        conn.execute(update(pipeline_runs).where(pipeline_runs.c.id == run_id).values(**values))
    _put_steps(conn, run_id, record["steps"])
    if record["state"] != RUNNING:
        data = {"pipeline": record["pipeline"], "steps": {name: s["state"] for name, s in record["steps"].items()}}
        if record.get("error"):
            data["reason"] = record["error"]
        step_runs_of.track(conn, run_id, record, actor if row is None else row.started_by)
        kind = f"pipeline-run.{record['state']}"
        log.append(conn, kind, f"pipeline-run/{run_id}", actor, data, cause=record["cause"])


def _put_steps(conn: Connection, run_id: str, steps: dict[str, dict[str, Any]]) -> None:
    told = select(step_runs.c.step, step_runs.c.state, step_runs.c.ended_at)
    known = {row.step: row[1:] for row in conn.execute(told.where(step_runs.c.pipeline_run_id == run_id))}
    changed = {
        name for name, step in steps.items() if name in known and known[name] != (step["state"], step["ended_at"])
    }
    if changed:
        where = (step_runs.c.pipeline_run_id == run_id, step_runs.c.step.in_(changed))
        conn.execute(delete(step_runs).where(*where))
    fresh = [
        {"pipeline_run_id": run_id, "step": name, **step}
        for name, step in steps.items()
        if name not in known or name in changed
    ]
    if fresh:
        conn.execute(insert(step_runs), fresh)


def get(conn: Connection, run_id: str) -> PipelineRun:
    row = conn.execute(select(pipeline_runs).where(pipeline_runs.c.id == run_id)).first()
    if row is None:
        raise NotFound(f"There is no pipeline run {run_id!r}.")
    return _run(conn, row)


def newest(conn: Connection, limit: int = 50) -> list[PipelineRun]:
    query = select(pipeline_runs).order_by(pipeline_runs.c.started_at.desc()).limit(limit)
    return [_run(conn, row) for row in conn.execute(query).all()]


def _run(conn: Connection, row: Row[Any]) -> PipelineRun:
    query = select(step_runs).where(step_runs.c.pipeline_run_id == row.id).order_by(step_runs.c.started_at)
    steps = tuple(
        StepRun(s.step, s.state, s.key, s.seconds, s.started_at, s.ended_at, s.error, s.details)
        for s in conn.execute(query)
    )
    return PipelineRun(**row._mapping, steps=steps)  # pyright: ignore[reportPrivateUsage]
