"""Runs: one tracked execution each, with params, metrics and tags."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Insert, Row, Select, bindparam, delete, insert, select, update

from modelyard.build.tracking import artifacts, experiments, limits, metrics
from modelyard.build.tracking.metrics import Metric, number
from modelyard.domain.errors import Invalid, NotFound
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id
from modelyard.store.statements import PerDialect, Statement, rows_of
from modelyard.store.tables.tracking import latest_metrics, run_params, run_tags, runs

__all__ = ["Metric", "Run", "change", "create", "delete_tag", "get", "history", "load", "log_batch", "row_of"]

RUNNING, FINAL = "RUNNING", frozenset({"FINISHED", "FAILED", "KILLED"})
STATUSES = FINAL | {RUNNING, "SCHEDULED"}
NAME_TAG = "mlflow.runName"
PAIR = ("run", "key", "value")
Point = TypeVar("Point")
_TEXTS = msgspec.json.Decoder(dict[str, str])


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
    deleted_at: int | None
    pipeline_run_id: str | None
    elsewhere: str | None = None
    """Where its files lie, if not here."""
    params: dict[str, str] = field(default_factory=dict[str, str])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    metrics: list[Metric] = field(default_factory=list[Metric])


def _set(dialect: Any, rows: Any = None) -> Insert:
    statement = dialect.insert(run_tags)
    if rows is not None:
        statement = statement.from_select(PAIR, rows)
    return statement.on_conflict_do_update(index_elements=["run", "key"], set_={"value": statement.excluded.value})


def _of_active() -> Select[Any]:
    """A pair of the active run of an id."""
    held = (bindparam(name, type_=run_tags.c[name].type).label(name) for name in PAIR[1:])
    return select(runs.c.num, *held).where(runs.c.id == bindparam("id"), runs.c.lifecycle == bindparam("lifecycle"))


def _of_run(table: Any, *columns: Any) -> Statement:
    return Statement(select(*columns).where(table.c.run == bindparam("run")).order_by(table.c.key))


_KEY = Statement(select(runs.c.num, runs.c.lifecycle, runs.c.experiment_id).where(runs.c.id == bindparam("id")))
_ROW = Statement(select(*runs.c).where(runs.c.id == bindparam("id")))
_PARAMS = _of_run(run_params, run_params.c.key, run_params.c.value)
_TAGS = _of_run(run_tags, run_tags.c.key, run_tags.c.value)
_latest = latest_metrics.c
_NEWEST = _of_run(latest_metrics, _latest.key, _latest.value, _latest.is_nan, _latest.time, _latest.step)
_PARAM = Statement(
    select(run_params.c.value).where(run_params.c.run == bindparam("run"), run_params.c.key == bindparam("key"))
)
_ADD_PARAM = Statement(insert(run_params))
_ADD_FOUND = PerDialect(
    lambda dialect: dialect.insert(run_params).from_select(PAIR, _of_active()).on_conflict_do_nothing()
)
_SET_TAG = PerDialect(_set)
_SET_FOUND = PerDialect(lambda dialect: _set(dialect, _of_active()))
_ADD_RUN = Statement(insert(runs).values({c.name: bindparam(c.name) for c in runs.c if c.name != "num"}))
_CHANGE = Statement(
    update(runs)
    .where(runs.c.num == bindparam("run"))
    .values({name: bindparam(name) for name in ("name", "status", "ended_at", "lifecycle", "deleted_at")})
)


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
    where_told: bool = False,
) -> Run:
    """The new run, running; its files lie here, or (`where_told`) where the experiment was told to keep them.

    Raises NotFound for an unknown experiment, Invalid for a deleted one.
    """
    place = experiments.require_active(conn, experiment_id)
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
        "deleted_at": None,
        "pipeline_run_id": pipeline_run_id,
        "elsewhere": artifacts.below(place, f"{run_id}/artifacts") if where_told else None,
    }
    _ADD_RUN.run(conn, values)
    number_of_run: int = _KEY.first(conn, {"id": run_id})[0]
    write_tags(conn, number_of_run, tags or {})
    log.append(conn, "run.created", f"run/{run_id}", actor, {"experiment": experiment_id, "name": name})
    return Run(num=number_of_run, **values, tags=dict(tags or {}))


def find(conn: Connection, run_id: str) -> Row[Any] | None:
    """The run's bare row, where there is such a run."""
    return conn.execute(select(runs).where(runs.c.id == run_id)).first()


def row_of(conn: Connection, run_id: str) -> Row[Any]:
    """The run's bare row. Raises NotFound."""
    row = find(conn, run_id)
    if row is None:
        raise _unknown(run_id)
    return row


def active(conn: Connection, run_id: str) -> int:
    """The number of a run that may be written to. Raises NotFound, or Invalid for a deleted one."""
    row = _KEY.first(conn, {"id": run_id})
    if row is None:
        raise _unknown(run_id)
    if row[1] != experiments.ACTIVE:
        raise Invalid(f"The run {run_id} must be in the 'active' state. Current state is {row[1]}.")
    return row[0]


def get(conn: Connection, run_id: str) -> Run:
    """The run with its params, tags and newest metrics. Raises NotFound."""
    row = _ROW.first(conn, {"id": run_id})
    if row is None:
        raise _unknown(run_id)
    key = {"run": row[0]}
    points = [Metric(r[0], number(r[1], r[2]), r[3], r[4]) for r in _NEWEST.all(conn, key)]
    return _run(row, dict(_PARAMS.all(conn, key)), dict(_TAGS.all(conn, key)), points)


def load(conn: Connection, rows: Sequence[Any]) -> list[Run]:
    """Runs of bare rows, with params, tags and newest metrics, by three queries whatever their number."""
    numbers = [row[0] for row in rows]
    params, tags = _texts(conn, "run_params", numbers), _texts(conn, "run_tags", numbers)
    points = newest(conn, numbers, Metric, number)
    return [_run(row, params.get(row[0], {}), tags.get(row[0], {}), points.get(row[0], [])) for row in rows]


def newest(
    conn: Connection,
    numbers: Sequence[int],
    make: Callable[[str, Any, int, int], Point],
    odd: Callable[[float, bool], object],
) -> dict[int, list[Point]]:
    """By run number, the newest of each metric: `make` of (key, value, time, step).

    `odd` gives what stands for a value that is not finite, from what is stored and whether it is NaN.
    """
    query = "SELECT run, key, value, is_nan, time, step FROM latest_metrics"
    rows = rows_of(conn, f"{query} WHERE {_among(numbers)} ORDER BY run, key")
    return {
        run: [
            make(key, odd(value, is_nan) if is_nan or value - value else value, time, step)
            for _, key, value, is_nan, time, step in points
        ]
        for run, points in groupby(rows, itemgetter(0))
    }


def pairs(conn: Connection, table: str, numbers: Sequence[int]) -> dict[int, str]:
    """By run number, the JSON of run_params or run_tags as [{"key": ..., "value": ...}], in the order of the keys."""
    if conn.dialect.name == "sqlite":
        return _gathered(conn, table, numbers, "json_group_array(json_object('key', key, 'value', value))")
    pair = "json_build_object('key', key, 'value', value)"
    return _gathered(conn, table, numbers, f"json_agg({pair} ORDER BY key)::text")


def _texts(conn: Connection, table: str, numbers: Sequence[int]) -> dict[int, dict[str, str]]:
    """By run number, the values of a table by key."""
    gather = "json_group_object(key, value)"
    if conn.dialect.name != "sqlite":
        gather = "json_object_agg(key, value ORDER BY key)::text"
    return {run: _TEXTS.decode(text) for run, text in _gathered(conn, table, numbers, gather).items()}


def _gathered(conn: Connection, table: str, numbers: Sequence[int], gather: str) -> dict[int, str]:
    """One row of JSON for each run, which costs half of one row for each value."""
    ordered = f"SELECT run, key, value FROM {table} WHERE {_among(numbers)} ORDER BY run, key"
    return dict(rows_of(conn, f"SELECT run, {gather} FROM ({ordered}) AS held GROUP BY run"))


def _among(numbers: Sequence[int]) -> str:
    return f"run IN ({','.join(str(int(one)) for one in numbers) or 'NULL'})"


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
    """The run's bare row, as a Run, after its status, end, name or lifecycle changed.

    Raises NotFound, or Invalid for an unknown status or a deleted run (unless it is restored).
    """
    if status is not None and status not in STATUSES:
        raise Invalid(f"{status!r} is not a run status.", remedy=f"One of {', '.join(sorted(STATUSES))}.")
    if lifecycle is None:
        active(conn, run_id)
    row = _ROW.first(conn, {"id": run_id})
    if row is None:
        raise _unknown(run_id)
    before = Run(*row)
    after: dict[str, Any] = {
        "name": name or before.name,
        "status": status or before.status,
        "ended_at": before.ended_at if ended_at is None else ended_at,
        "lifecycle": lifecycle or before.lifecycle,
        "deleted_at": before.deleted_at,
    }
    if lifecycle is not None:
        after["deleted_at"] = now_ms() if lifecycle == experiments.DELETED else None
    _CHANGE.run(conn, {"run": before.num, **after})
    if name:
        write_tags(conn, before.num, {NAME_TAG: name})
    if status is not None and status in FINAL and before.status not in FINAL:
        log.append(conn, "run.ended", f"run/{run_id}", actor, {"status": status})
    if after["lifecycle"] != before.lifecycle:
        log.append(conn, "run.changed", f"run/{run_id}", actor, {"before": before.lifecycle, "after": lifecycle})
    return Run(**{**before.__dict__, **after})


def log_batch(
    conn: Connection,
    run_id: str,
    points: Sequence[Metric] = (),
    params: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
) -> None:
    """Write all or nothing (in the caller's transaction).

    Raises Invalid beyond the limits, for a param that has another value already, and for a deleted run.
    """
    params, tags = params or {}, tags or {}
    limits.check_run_id(run_id)
    limits.check_metrics([(point.key, point.time) for point in points])
    params = {k: limits.checked_param(k, v, f"params[{index}]") for index, (k, v) in enumerate(params.items())}
    tags = {k: limits.checked_tag(k, v, f"tags[{index}]") for index, (k, v) in enumerate(tags.items())}
    limits.check_batch(len(points), len(params), len(tags))
    run = active(conn, run_id)
    if params:
        _write_params(conn, run, run_id, params)
    if points:
        metrics.write(conn, run, points)
    if tags:
        write_tags(conn, run, tags)
        _follow_name(conn, run, tags)


def log_metric(conn: Connection, run_id: str, metric: Metric) -> None:
    limits.check_metric(metric.key, metric.time)
    if not metrics.write_at_once(conn, run_id, metric):
        metrics.write(conn, active(conn, run_id), [metric])


def log_param(conn: Connection, run_id: str, key: str, value: str) -> None:
    """Raises Invalid for a param that has another value already."""
    value = limits.checked_param(key, value)
    if _ADD_FOUND.on(conn).run(conn, _pair(run_id, key, value)).rowcount:
        return
    held = _PARAM.first(conn, {"run": active(conn, run_id), "key": key})
    if held[0] != value:
        raise Invalid(
            f"Changing param values is not allowed. Param with key='{key}' was already logged with value='{held[0]}' "
            f"for run ID='{run_id}'. Attempted logging new value '{value}'."
        )


def set_tag(conn: Connection, run_id: str, key: str, value: str) -> None:
    value = limits.checked_tag(key, value)
    if not _SET_FOUND.on(conn).run(conn, _pair(run_id, key, value)).rowcount:
        active(conn, run_id)
    if key == NAME_TAG:
        _follow_name(conn, active(conn, run_id), {key: value})


def _pair(run_id: str, key: str, value: str) -> dict[str, str]:
    return {"id": run_id, "lifecycle": experiments.ACTIVE, "key": key, "value": value}


def write_tags(conn: Connection, number: int, tags: dict[str, str]) -> None:
    """Set tags of a run, by its number."""
    if tags:
        _SET_TAG.on(conn).many(conn, PAIR, [(number, key, value) for key, value in tags.items()])


def delete_tag(conn: Connection, run_id: str, key: str) -> None:
    """Raises NotFound for a tag that is not there."""
    number = active(conn, run_id)
    if not conn.execute(delete(run_tags).where(run_tags.c.run == number, run_tags.c.key == key)).rowcount:
        raise NotFound(f"No tag with name: {key} in run with id {run_id}")


def history(conn: Connection, run_id: str, key: str, limit: int | None = None, offset: int = 0) -> list[Metric]:
    """A metric's points in the order (step, time) of its curve."""
    return metrics.history(conn, row_of(conn, run_id).num, key, limit, offset, by_step=True)


def _run(row: Any, *held: Any) -> Run:
    return Run(*row, *held)


def _unknown(run_id: str) -> NotFound:
    return NotFound(f"Run with id={run_id} not found")


def _follow_name(conn: Connection, run: int, tags: dict[str, str]) -> None:
    if tags.get(NAME_TAG):
        conn.execute(update(runs).where(runs.c.num == run).values(name=tags[NAME_TAG][:250]))


def _write_params(conn: Connection, number: int, run_id: str, params: dict[str, str]) -> None:
    held = dict(_PARAMS.all(conn, {"run": number}))
    changed = [
        {"key": key, "old_value": held[key], "new_value": value}
        for key, value in params.items()
        if held.get(key, value) != value
    ]
    if changed:
        raise Invalid(
            f"Changing param values is not allowed. Params were already logged='{changed}' for run ID='{run_id}'."
        )
    fresh = [(number, key, value) for key, value in params.items() if key not in held]
    if fresh:
        _ADD_PARAM.many(conn, PAIR, fresh)
