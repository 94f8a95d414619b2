"""Runs: one tracked execution each, with params, metrics and tags."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from modelyard.build.tracking import experiments
from modelyard.domain.errors import Conflict, Invalid, NotFound
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id
from modelyard.store.tables.tracking import latest_metrics, metric_points, run_inputs, run_params, run_tags, runs

RUNNING, FINAL = "RUNNING", frozenset({"FINISHED", "FAILED", "KILLED"})
STATUSES = FINAL | {RUNNING, "SCHEDULED"}
MOST_KEY, MOST_PARAM, MOST_TAG = 250, 6000, 8000
MOST_METRICS, MOST_PARAMS, MOST_TAGS = 1000, 100, 100


@dataclass(frozen=True)
class Metric:
    """A point: `step` is the metric step, the x of its curve."""

    key: str
    value: float
    time: int
    step: int = 0
    model_id: str | None = None
    dataset: str | None = None


@dataclass(frozen=True)
class Run:
    num: int
    id: str
    experiment_id: int
    name: str
    user_id: str
    author: str
    status: str
    lifecycle: str
    started_at: int
    ended_at: int | None
    pipeline_run_id: str | None
    params: dict[str, str] = field(default_factory=dict[str, str])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    metrics: list[Metric] = field(default_factory=list[Metric])


def create(
    conn: Connection,
    experiment_id: int,
    *,
    actor: str,
    name: str,
    user_id: str = "",
    started_at: int | None = None,
    tags: dict[str, str] | None = None,
    pipeline_run_id: str | None = None,
) -> Run:
    """The new run, running. Raises NotFound for an unknown experiment, Conflict for a deleted one."""
    if experiments.get(conn, experiment_id).lifecycle == experiments.DELETED:
        raise Conflict(f"Experiment {experiment_id} is deleted.", remedy="Restore it first.")
    run_id = new_id()
    values: dict[str, Any] = {
        "id": run_id,
        "experiment_id": experiment_id,
        "name": name,
        "user_id": user_id,
        "author": actor,
        "status": RUNNING,
        "lifecycle": experiments.ACTIVE,
        "started_at": now_ms() if started_at is None else started_at,
        "ended_at": None,
        "pipeline_run_id": pipeline_run_id,
    }
    key = conn.execute(insert(runs).values(**values)).inserted_primary_key
    number: int = key[0] if key else 0
    write_tags(conn, number, tags or {})
    log.append(conn, "run.created", f"run/{run_id}", actor, {"experiment": experiment_id, "name": name})
    return Run(num=number, **values, tags=dict(tags or {}))


def row_of(conn: Connection, run_id: str) -> Row[Any]:
    """The run's bare row. Raises NotFound."""
    row = conn.execute(select(runs).where(runs.c.id == run_id)).first()
    if row is None:
        raise NotFound(f"Run with id={run_id} not found")
    return row


def get(conn: Connection, run_id: str) -> Run:
    """The run with its params, tags and newest metrics. Raises NotFound."""
    return load(conn, [row_of(conn, run_id)])[0]


def load(conn: Connection, rows: Sequence[Row[Any]]) -> list[Run]:
    """Runs of bare rows, with params, tags and newest metrics, by three queries whatever their number."""
    numbers = [row.num for row in rows]
    params: dict[int, dict[str, str]] = {number: {} for number in numbers}
    tags: dict[int, dict[str, str]] = {number: {} for number in numbers}
    metrics: dict[int, list[Metric]] = {number: [] for number in numbers}
    for start in range(0, len(numbers), 500):
        part = numbers[start : start + 500]
        for found in conn.execute(select(run_params).where(run_params.c.run.in_(part))):
            params[found.run][found.key] = found.value
        for found in conn.execute(select(run_tags).where(run_tags.c.run.in_(part))):
            tags[found.run][found.key] = found.value
        for found in conn.execute(select(latest_metrics).where(latest_metrics.c.run.in_(part))):
            metrics[found.run].append(Metric(found.key, _number(found), found.time, found.step))
    return [
        Run(**row._mapping, params=params[row.num], tags=tags[row.num], metrics=metrics[row.num])  # pyright: ignore[reportPrivateUsage]
        for row in rows
    ]


def change(
    conn: Connection,
    run_id: str,
    *,
    actor: str,
    status: str | None = None,
    ended_at: int | None = None,
    name: str | None = None,
    lifecycle: str | None = None,
) -> Run:
    """The run after its status, end, name or lifecycle changed."""
    if status is not None and status not in STATUSES:
        raise Invalid(f"{status!r} is not a run status.", remedy=f"One of {', '.join(sorted(STATUSES))}.")
    before = row_of(conn, run_id)
    wanted = {"status": status, "ended_at": ended_at, "name": name, "lifecycle": lifecycle}
    values = {key: value for key, value in wanted.items() if value is not None}
    if status in FINAL and ended_at is None and before.ended_at is None:
        values["ended_at"] = now_ms()
    if values:
        conn.execute(update(runs).where(runs.c.num == before.num).values(**values))
    if status is not None and status in FINAL and before.status not in FINAL:
        log.append(conn, "run.ended", f"run/{run_id}", actor, {"status": status})
    if lifecycle is not None and lifecycle != before.lifecycle:
        log.append(conn, "run.changed", f"run/{run_id}", actor, {"before": before.lifecycle, "after": lifecycle})
    return get(conn, run_id)


def log_batch(
    conn: Connection,
    run_id: str,
    metrics: Sequence[Metric] = (),
    params: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
) -> None:
    """Write all or nothing (in the caller's transaction).

    Raises Invalid beyond the limits or for a param that has another value already, Conflict for a deleted run.
    """
    row = row_of(conn, run_id)
    if row.lifecycle == experiments.DELETED:
        raise Invalid(f"The run {run_id} must be in the 'active' state. Current state is deleted.")
    _check_limits(metrics, params or {}, tags or {})
    if params:
        _write_params(conn, row.num, run_id, params)
    if metrics:
        _write_metrics(conn, row.num, metrics)
    if tags:
        write_tags(conn, row.num, tags)
        if "mlflow.runName" in tags:
            conn.execute(update(runs).where(runs.c.num == row.num).values(name=tags["mlflow.runName"]))


def write_tags(conn: Connection, number: int, tags: dict[str, str]) -> None:
    for key, value in tags.items():
        where = (run_tags.c.run == number, run_tags.c.key == key)
        if not conn.execute(update(run_tags).where(*where).values(value=value)).rowcount:
            conn.execute(insert(run_tags).values(run=number, key=key, value=value))


def delete_tag(conn: Connection, run_id: str, key: str) -> None:
    number = row_of(conn, run_id).num
    if not conn.execute(delete(run_tags).where(run_tags.c.run == number, run_tags.c.key == key)).rowcount:
        raise NotFound(f"No tag with name: {key} in run with id {run_id}")


def history(conn: Connection, run_id: str, key: str, limit: int | None = None, offset: int = 0) -> list[Metric]:
    """A metric's points in the order (step, time) of its curve."""
    number = row_of(conn, run_id).num
    query = select(metric_points).where(metric_points.c.run == number, metric_points.c.key == key)
    query = query.order_by(metric_points.c.step, metric_points.c.time, metric_points.c.id).offset(offset)
    found = conn.execute(query.limit(limit) if limit is not None else query)
    return [Metric(row.key, _number(row), row.time, row.step, row.model_id, row.dataset) for row in found]


def add_inputs(conn: Connection, run_id: str, kind: str, items: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
    """Note datasets or models that a run read or wrote: (name, digest, content) each; noting twice is noting once."""
    number = row_of(conn, run_id).num
    for name, digest, content in items:
        key = {"run": number, "kind": kind, "digest": digest, "name": name}
        where = [run_inputs.c[column] == value for column, value in key.items()]
        if not conn.execute(update(run_inputs).where(*where).values(content=content)).rowcount:
            conn.execute(insert(run_inputs).values(**key, content=content))


def inputs(conn: Connection, number: int, kind: str) -> list[dict[str, Any]]:
    query = select(run_inputs.c.content).where(run_inputs.c.run == number, run_inputs.c.kind == kind)
    return list(conn.execute(query).scalars())


def _check_limits(metrics: Sequence[Metric], params: dict[str, str], tags: dict[str, str]) -> None:
    for noun, count, most in (
        ("metrics", len(metrics), MOST_METRICS),
        ("params", len(params), MOST_PARAMS),
        ("tags", len(tags), MOST_TAGS),
    ):
        if count > most:
            raise Invalid(f"A batch logging request can contain at most {most} {noun}. Got {count} {noun}.")
    for key in (*params, *tags, *(metric.key for metric in metrics)):
        if not key or len(key) > MOST_KEY:
            raise Invalid(f"A key has 1 to {MOST_KEY} characters; this one has {len(key)}: {key[:60]!r}.")
    for kind, values, most in (("param", params, MOST_PARAM), ("tag", tags, MOST_TAG)):
        for key, value in values.items():
            if len(value) > most:
                raise Invalid(
                    f"The value of {kind} '{key}' had length {len(value)}, which exceeded length limit of {most}"
                )


def _write_params(conn: Connection, number: int, run_id: str, params: dict[str, str]) -> None:
    query = select(run_params.c.key, run_params.c.value).where(
        run_params.c.run == number, run_params.c.key.in_(list(params))
    )
    known = {row.key: row.value for row in conn.execute(query)}
    for key, value in params.items():
        if key in known and known[key] != value:
            raise Invalid(
                f"Changing param values is not allowed. Param with key='{key}' was already logged with "
                f"value='{known[key]}' for run ID='{run_id}'. Attempted logging new value '{value}'."
            )
    fresh = [{"run": number, "key": key, "value": value} for key, value in params.items() if key not in known]
    if fresh:
        conn.execute(insert(run_params), fresh)


def _write_metrics(conn: Connection, number: int, metrics: Sequence[Metric]) -> None:
    rows = [_point(number, metric) for metric in metrics]
    conn.execute(insert(metric_points), rows)
    newest: dict[str, dict[str, Any]] = {}
    for row in rows:
        held = newest.get(row["key"])
        if held is None or (row["step"], row["time"], _rank(row)) >= (held["step"], held["time"], _rank(held)):
            newest[row["key"]] = row
    columns = ("run", "key", "value", "special", "step", "time")
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(latest_metrics)
    fresh = statement.excluded
    table = latest_metrics.c
    later = (fresh.step > table.step) | ((fresh.step == table.step) & (fresh.time >= table.time))
    statement = statement.on_conflict_do_update(
        index_elements=["run", "key"],
        set_={name: fresh[name] for name in columns[2:]},
        where=later,
    )
    conn.execute(statement, [{name: row[name] for name in columns} for row in newest.values()])


def _point(number: int, metric: Metric) -> dict[str, Any]:
    finite = math.isfinite(metric.value)
    special = (
        None if finite else ("NaN" if math.isnan(metric.value) else f"{'-' if metric.value < 0 else ''}Infinity")
    )
    return {
        "run": number,
        "key": metric.key,
        "value": metric.value if finite else None,
        "special": special,
        "step": metric.step,
        "time": metric.time,
        "model_id": metric.model_id,
        "dataset": metric.dataset,
    }


def _rank(row: dict[str, Any]) -> float:
    return row["value"] if row["value"] is not None else math.inf


def _number(row: Row[Any]) -> float:
    if row.special is None:
        return row.value
    return {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}[row.special]
