"""Metrics of runs: points, the newest of each, their curves whole or sampled."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Insert, Select, bindparam, or_, select

from modelyard.domain.errors import Invalid
from modelyard.store.statements import PerDialect, Statement
from modelyard.store.tables.tracking import latest_metrics, logged_models, metric_points, model_metrics, runs


class Metric(msgspec.Struct, frozen=True, gc=False):
    """A point: `step` is the metric step, the x of its curve."""

    key: str
    value: float
    time: int
    step: int = 0
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None
    run_id: str | None = None


def _add(dialect: Any, rows: Any = None) -> Insert:
    statement = dialect.insert(metric_points)
    return (statement if rows is None else statement.from_select(POINT, rows)).on_conflict_do_nothing()


def _keep_newest(dialect: Any, rows: Any = None) -> Insert:
    statement = dialect.insert(latest_metrics)
    if rows is not None:
        statement = statement.from_select(POINT, rows)
    fresh, held = statement.excluded, latest_metrics.c
    later = or_(
        fresh.step > held.step,
        (fresh.step == held.step) & (fresh.time > held.time),
        (fresh.step == held.step) & (fresh.time == held.time) & (fresh.value > held.value),
    )
    changed = {name: fresh[name] for name in ("value", "is_nan", "step", "time")}
    return statement.on_conflict_do_update(index_elements=["run", "key"], set_=changed, where=later)


def _add_to_model(dialect: Any) -> Insert:
    return dialect.insert(model_metrics).on_conflict_do_nothing()


def _of_found(number: Any) -> Any:
    """A point of the run whose number a query finds."""
    return select(
        number.label("run"), *(bindparam(name, type_=metric_points.c[name].type).label(name) for name in POINT[1:])
    )


_FOUND = (runs.c.id == bindparam("id"), runs.c.lifecycle == bindparam("lifecycle"))


def _at_once(dialect: Any) -> Select[Any]:
    """Find the run, add the point, keep the newest: one statement, as PostgreSQL has them; the run's number."""
    found = select(runs.c.num).where(*_FOUND).cte("found")
    row = _of_found(found.c.num)
    return select(found.c.num).add_cte(_add(dialect, row).cte("added"), _keep_newest(dialect, row).cte("kept"))


POINT: tuple[str, ...] = ("run", "key", "time", "step", "value", "is_nan")
MODEL_POINT = (*POINT, "model_id", "dataset_name", "dataset_digest")
_AT_ONCE = PerDialect(_at_once)
_ADD_FOUND = PerDialect(lambda dialect: _add(dialect, _of_found(runs.c.num).where(*_FOUND)))
_KEEP_FOUND = PerDialect(lambda dialect: _keep_newest(dialect, _of_found(runs.c.num).where(*_FOUND)))
_ADD = PerDialect(_add)
_KEEP_NEWEST = PerDialect(_keep_newest)
_ADD_TO_MODEL = PerDialect(_add_to_model)
_points = metric_points.c
_HISTORY = Statement(
    select(_points.time, _points.step, _points.value, _points.is_nan)
    .where(_points.run == bindparam("run"), _points.key == bindparam("key"))
    .order_by(_points.time, _points.step, _points.value)
    .limit(bindparam("most"))
    .offset(bindparam("skip"))
)
ALL = 2**62


def write(conn: Connection, run: int, metrics: Sequence[Metric]) -> None:
    """Add points to a run (by its number) and keep the newest of each metric."""
    rows = [_row(run, metric) for metric in metrics]
    rows.sort()  # as the tree orders them: neighbours go into one page
    _ADD.on(conn).many(conn, POINT, rows)
    newest: dict[str, tuple[Any, ...]] = {}
    for row in rows:
        held = newest.get(row[1])
        if held is None or (row[3], row[2], row[4]) > (held[3], held[2], held[4]):
            newest[row[1]] = row
    _KEEP_NEWEST.on(conn).many(conn, POINT, list(newest.values()))
    about_models = [metric for metric in metrics if metric.model_id]
    if about_models:
        write_about_models(conn, run, about_models)


def write_about_models(conn: Connection, run: int, metrics: Sequence[Metric]) -> None:
    """Note what a run (by its number) logged about logged models. Raises Invalid for one that is not there."""
    named = {metric.model_id for metric in metrics}
    unknown = named - set(conn.scalars(select(logged_models.c.id).where(logged_models.c.id.in_(named))))
    if unknown:
        raise Invalid(f"Logged model with ID '{min(map(str, unknown))}' not found.", remedy="Create it first.")
    _ADD_TO_MODEL.on(conn).many(conn, MODEL_POINT, [_model_row(run, metric) for metric in metrics])


def write_at_once(conn: Connection, run_id: str, metric: Metric) -> bool:
    """Add a point to an active run without asking for the run first; False where nothing was written.

    That is so without such a run, for a metric about a model, and in SQLite for a point that it holds already.
    """
    if metric.model_id:
        return False
    row = dict(zip(POINT, _row(0, metric), strict=True)) | {"id": run_id, "lifecycle": "active"}
    if conn.dialect.name != "sqlite":
        return _AT_ONCE.on(conn).first(conn, row) is not None
    if not _ADD_FOUND.on(conn).run(conn, row).rowcount:
        return False
    _KEEP_FOUND.on(conn).run(conn, row)
    return True


def history(
    conn: Connection, run: int, key: str, limit: int | None = None, offset: int = 0, by_step: bool = False
) -> list[Metric]:
    """A metric's points in the order they were logged (time, step, value), or in that of its curve."""
    bounds = {"most": ALL if limit is None else limit, "skip": offset}
    rows = _HISTORY.all(conn, {"run": run, "key": key, **bounds})
    found = [_metric(key, row) for row in rows]
    return sorted(found, key=lambda point: (point.step, point.time)) if by_step else found


def sampled(
    conn: Connection, run: int, key: str, most: int, start: int | None = None, end: int | None = None
) -> list[Metric]:
    """At most `most` points spread evenly over a curve (or its part from `start` to `end`), first and last kept.

    The points are cut into `most` even buckets and the first of each is kept, as SQL's NTILE does.
    """
    query = select(_points.time, _points.step, _points.value, _points.is_nan)
    query = query.where(_points.run == run, _points.key == key)
    if start is not None and end is not None:
        query = query.where(_points.step >= start, _points.step <= end)
    query = query.order_by(_points.step, _points.time, _points.value, _points.is_nan)
    rows = conn.execute(query).all()
    if len(rows) <= most:
        return [_metric(key, row) for row in rows]
    size, larger = divmod(len(rows), most)
    firsts = [bucket * size + min(bucket, larger) for bucket in range(most)]
    return [_metric(key, rows[index]) for index in [*firsts[:-1], len(rows) - 1]]


def bulk_history(conn: Connection, run_ids: Sequence[str], key: str, limit: int) -> list[Metric]:
    """Points of one metric of several runs, each with its run's id, by (run id, time, step, value)."""
    query = select(_points.time, _points.step, _points.value, _points.is_nan, runs.c.id)
    query = query.join(runs, runs.c.num == _points.run).where(_points.key == key, runs.c.id.in_(run_ids))
    query = query.order_by(runs.c.id, _points.time, _points.step, _points.value).limit(limit)
    return [Metric(key, number(row[2], row[3]), row[0], row[1], run_id=row[4]) for row in conn.execute(query)]


def of_models(conn: Connection, model_ids: Sequence[str]) -> dict[str, list[Metric]]:
    """What runs logged about each logged model."""
    found: dict[str, list[Metric]] = {model_id: [] for model_id in model_ids}
    query = select(model_metrics, runs.c.id.label("run_id")).join(runs, runs.c.num == model_metrics.c.run)
    query = query.where(model_metrics.c.model_id.in_(model_ids)).order_by(model_metrics.c.time, model_metrics.c.step)
    for row in conn.execute(query):
        value = number(row.value, row.is_nan)
        dataset = (row.dataset_name, row.dataset_digest)
        found[row.model_id].append(Metric(row.key, value, row.time, row.step, row.model_id, *dataset, row.run_id))
    return found


def number(value: float, is_nan: bool) -> float:
    return math.nan if is_nan else value


def check_interval(start: int | None, end: int | None) -> None:
    """Raises Invalid for half an interval of steps, or one that ends before it starts."""
    if (start is None) != (end is None):
        raise Invalid("If either start step or end step are specified, both must be specified.")
    if start is not None and end is not None and start > end:
        raise Invalid(f"end_step must be greater than start_step. Found start_step={start} and end_step={end}.")


def _row(run: int, metric: Metric) -> tuple[Any, ...]:
    value = metric.value
    is_nan = value != value
    return (run, metric.key, metric.time, metric.step, 0.0 if is_nan else value, is_nan)


def _model_row(run: int, metric: Metric) -> tuple[Any, ...]:
    return (*_row(run, metric), metric.model_id, metric.dataset_name, metric.dataset_digest)


def _metric(key: str, row: Any) -> Metric:
    return Metric(key, number(row[2], row[3]), row[0], row[1])
