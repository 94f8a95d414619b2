"""The tracked runs of a pipeline run that is over: its own, and a child for each step that ran."""

from typing import Any

from sqlalchemy import Connection, select

from modelyard.build.tracking import experiments, inputs, runs
from modelyard.build.tracking.runs import Metric
from modelyard.store.tables.tracking import runs as run_rows

PARENT = "mlflow.parentRunId"
MOST_CHILDREN = 200
"""A fan-out over thousands of items keeps its steps in the pipeline run, not as thousands of tracked runs."""
STATUS = {"finished": "FINISHED", "failed": "FAILED"}


def track(conn: Connection, pipeline_run_id: str, record: dict[str, Any], actor: str) -> None:
    """Make the runs of a pipeline run; the one that a registration made is the parent."""
    query = select(run_rows.c.id, run_rows.c.experiment_id).where(run_rows.c.pipeline_run_id == pipeline_run_id)
    found = conn.execute(query.order_by(run_rows.c.num)).first()
    if found is None:
        experiment = experiments.ensure(conn, record["pipeline"], actor=actor).id
        parent = _make(conn, experiment, pipeline_run_id, _pipeline_run(record), actor)
    else:
        parent, experiment = found.id, found.experiment_id
    ran = [(name, step) for name, step in record["steps"].items() if step["state"] in STATUS and step["key"]]
    for name, step in ran[:MOST_CHILDREN]:
        _make(conn, experiment, pipeline_run_id, _step_run(name, step, parent), actor)


def _pipeline_run(record: dict[str, Any]) -> dict[str, Any]:
    metrics: dict[str, float] = {}
    datasets: list[dict[str, Any]] = []
    params = {name: str(value) for name, value in record["params"].items()}
    for step in record["steps"].values():
        metrics |= step["details"].get("metrics", {})
        params |= step["details"].get("params", {})
        datasets += step["details"].get("datasets", [])
    tags = {"modelyard.pipeline": record["pipeline"]}
    if record["code"].get("commit"):
        tags["mlflow.source.git.commit"] = record["code"]["commit"]
    return {
        "name": record["pipeline"],
        "started_at": record["started_at"],
        "ended_at": record["ended_at"],
        "status": STATUS[record["state"]],
        "metrics": metrics,
        "params": params,
        "tags": tags,
        "datasets": datasets,
    }


def _step_run(name: str, step: dict[str, Any], parent: str) -> dict[str, Any]:
    details = step["details"]
    used = {f"system/{key}": details[key] for key in ("cpu_seconds", "peak_mb") if details.get(key)}
    tags = {PARENT: parent, "modelyard.step": name, "modelyard.reason": details.get("reason", "")[:500]}
    return {
        "name": name,
        "started_at": step["started_at"],
        "ended_at": step["ended_at"],
        "status": STATUS[step["state"]],
        "metrics": {**details.get("metrics", {}), **used, "system/seconds": step["seconds"]},
        "params": {**details.get("arguments", {}), **details.get("params", {})},
        "tags": tags,
        "datasets": details.get("datasets", []),
    }


def _make(conn: Connection, experiment: int, pipeline_run_id: str, what: dict[str, Any], actor: str) -> str:
    tags = {"mlflow.runName": what["name"], "mlflow.user": actor, **what["tags"]}
    made = runs.create(
        conn,
        experiment,
        actor=actor,
        name=what["name"],
        user_id=actor,
        started_at=what["started_at"],
        tags=tags,
        pipeline_run_id=pipeline_run_id,
    )
    points = [Metric(key, value, what["ended_at"]) for key, value in what["metrics"].items()]
    params = {key: value[:500] for key, value in what["params"].items()}
    runs.log_batch(conn, made.id, points, params)
    inputs.add(conn, made.id, inputs.DATASET, [inputs.dataset(each) for each in what["datasets"]])
    runs.change(conn, made.id, actor=actor, status=what["status"], ended_at=what["ended_at"])
    return made.id
