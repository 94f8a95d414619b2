"""Search over runs and experiments in MLflow's filter language."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    Select,
    String,
    and_,
    case,
    cast,
    exists,
    func,
    or_,
    select,
)

from modelyard.build.tracking import artifacts, experiments
from modelyard.build.tracking import runs as run_store
from modelyard.build.tracking.experiments import Experiment
from modelyard.build.tracking.runs import Run
from modelyard.domain.errors import Invalid
from modelyard.store import filters
from modelyard.store.filters import Condition, Order
from modelyard.store.tables.tracking import experiment_tags, latest_metrics, run_inputs, run_params, run_tags, runs
from modelyard.store.tables.tracking import experiments as experiment_rows

_HERE = artifacts.SCHEME + cast(runs.c.experiment_id, String) + "/" + runs.c.id + "/artifacts"
_URI = func.coalesce(runs.c.elsewhere, _HERE)
ATTRIBUTES: dict[str, ColumnElement[Any]] = {
    "run_id": runs.c.id,
    "run_name": runs.c.name,
    "run name": runs.c.name,
    "Run name": runs.c.name,
    "Run Name": runs.c.name,
    "status": runs.c.status,
    "user_id": runs.c.user_id,
    "artifact_uri": _URI,
    "start_time": runs.c.started_at,
    "created": runs.c.started_at,
    "Created": runs.c.started_at,
    "end_time": runs.c.ended_at,
}
NUMERIC = frozenset({"start_time", "created", "Created", "end_time"})
_BY_START = {("attribute", key) for key in ("start_time", "created", "Created")}
HELD: dict[str, Any] = {"param": run_params, "tag": run_tags, "metric": latest_metrics}
DATASET_KEYS = ("name", "digest", "context")
FEW = 2000
"""Up to so many matches a condition is the better place to start from; beyond, each run is asked in turn."""


def search_runs(
    conn: Connection,
    experiment_ids: Sequence[int],
    filter_text: str = "",
    lifecycles: Sequence[str] = ("active",),
    order_by: list[str] | None = None,
    limit: int = 1000,
    offset: int = 0,
) -> list[Run]:
    """Matching runs with params, tags and newest metrics; newest first unless ordered otherwise."""
    return run_store.load(conn, find_runs(conn, experiment_ids, filter_text, lifecycles, order_by, limit, offset))


def find_runs(
    conn: Connection,
    experiment_ids: Sequence[int],
    filter_text: str = "",
    lifecycles: Sequence[str] = ("active",),
    order_by: list[str] | None = None,
    limit: int = 1000,
    offset: int = 0,
    until: int = 0,
) -> Sequence[Row[Any]]:
    """The bare rows of matching runs.

    `until`: leave out runs made after the one of that number (see `newest_run`), so that pages do not shift.
    """
    wanted = [_among(runs.c.experiment_id, experiment_ids), _among(runs.c.lifecycle, lifecycles)]
    if until:
        wanted.append(runs.c.num <= until)
    for condition in filters.parse(filter_text):
        wanted.append(_clause(conn, condition))
    order = filters.parse_order(order_by or [])
    rows = _by_first_metric(conn, wanted, order, limit, offset)
    if rows is None:
        rows = conn.execute(_ordered(select(runs).where(*wanted), order).limit(limit).offset(offset)).all()
    return rows


def newest_run(conn: Connection) -> int:
    """The number of the run made last; 0 when there is none."""
    return conn.execute(select(func.max(runs.c.num))).scalar() or 0


def count(conn: Connection, experiment_id: int) -> int:
    """How many active runs an experiment has."""
    query = select(func.count()).select_from(runs)
    return conn.execute(query.where(runs.c.experiment_id == experiment_id, runs.c.lifecycle == "active")).scalar_one()


def _among(column: Column[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """One value is compared, so that an index keeps the order of what follows it."""
    return column == values[0] if len(values) == 1 else column.in_(values)


def _clause(conn: Connection, condition: Condition) -> ColumnElement[bool]:
    dialect, entity, key = conn.dialect.name, condition.entity, condition.key
    if condition.operator in ("absent", "present"):
        if entity not in ("param", "tag"):
            raise Invalid(f"IS NULL / IS NOT NULL is only supported for tags and params, not for '{entity}' '{key}'")
        held = HELD[entity].alias().c
        found = exists().where(held.run == runs.c.num, held.key == key)
        return ~found if condition.operator == "absent" else found
    if entity == "attribute":
        column = _attribute(key)
        if key in NUMERIC:
            return filters.number_clause(column, condition, whole=True)
        return filters.text_clause(column, condition, dialect)
    if entity == "dataset":
        return _dataset_clause(condition, dialect)
    table = HELD[entity].alias().c  # its own, since the page may be read along the same table
    matching: list[ColumnElement[bool]] = [table.key == key]
    if entity == "metric":
        compared = filters.number_clause(table.value, condition)
        nan = table.is_nan
        matching.append(or_(compared, nan) if condition.operator == "!=" else and_(compared, ~nan))
    else:
        matching.append(filters.text_clause(table.value, condition, dialect))
    if _few(conn, select(table.run).where(*matching)):
        return runs.c.num.in_(select(table.run).where(*matching))
    return exists().where(table.run == runs.c.num, *matching)


def _attribute(key: str) -> ColumnElement[Any]:
    if key not in ATTRIBUTES:
        raise Invalid(f"Invalid attribute key '{key}' specified. Valid keys are '{sorted(ATTRIBUTES)}'")
    return ATTRIBUTES[key]


def _few(conn: Connection, query: Select[Any]) -> bool:
    seen = select(func.count()).select_from(query.limit(FEW).subquery())
    return conn.execute(seen).scalar_one() < FEW


def _dataset_clause(condition: Condition, dialect: str) -> ColumnElement[bool]:
    if condition.key not in DATASET_KEYS:
        raise Invalid(f"Invalid dataset key '{condition.key}' specified. Valid keys are '{sorted(DATASET_KEYS)}'")
    matching = filters.text_clause(run_inputs.c[condition.key], condition, dialect)
    return runs.c.num.in_(select(run_inputs.c.run).where(run_inputs.c.kind == "dataset", matching))


def _by_first_metric(
    conn: Connection, wanted: list[Any], order: list[Order], limit: int, offset: int
) -> Sequence[Any] | None:
    """The page when runs that have the first metric fill it: read off its index instead of sorting every run."""
    if len(order) != 1 or order[0].entity != "metric":
        return None
    held = latest_metrics.c
    query = select(runs).join(latest_metrics, held.run == runs.c.num)
    query = query.where(held.key == order[0].key, held.is_nan.is_(False), *wanted)
    by = held.value.desc() if order[0].descending else held.value.asc()
    query = query.order_by(by, runs.c.started_at.desc(), runs.c.id).limit(limit).offset(offset)
    rows = conn.execute(query).all()
    return rows if len(rows) == limit else None


def _ordered(query: Select[Any], order: list[Order]) -> Select[Any]:
    clauses: list[ColumnElement[Any]] = []
    for clause in order:
        if clause.entity == "attribute":
            if clause.key not in ATTRIBUTES:
                raise Invalid(
                    f"Invalid attribute key '{clause.key}' specified. Valid keys are '{sorted(ATTRIBUTES)}'"
                )
            column, missing = ATTRIBUTES[clause.key], None
        elif clause.entity in HELD:
            held = HELD[clause.entity].alias()
            query = query.outerjoin(held, and_(held.c.run == runs.c.num, held.c.key == clause.key))
            column = held.c.value
            missing = case((held.c.is_nan, 1), (column.is_(None), 2), else_=0) if clause.entity == "metric" else None
        else:
            raise Invalid(f"Invalid order_by entity type '{clause.entity}'")
        last = case((column.is_(None), 1), else_=0) if missing is None else missing
        clauses += [last, column.desc() if clause.descending else column.asc()]
    if not any(
        clause.entity == "attribute" and clause.key in ("start_time", "created", "Created") for clause in order
    ):
        clauses.append(runs.c.started_at.desc())
    return query.order_by(*clauses, runs.c.id)


EXPERIMENT_ATTRIBUTES: dict[str, Column[Any]] = {
    "name": experiment_rows.c.name,
    "experiment_id": experiment_rows.c.id,
    "creation_time": experiment_rows.c.created_at,
    "last_update_time": experiment_rows.c.updated_at,
}


def search_experiments(
    conn: Connection,
    filter_text: str = "",
    lifecycles: Sequence[str] = ("active",),
    order_by: list[str] | None = None,
    limit: int = 1000,
    offset: int = 0,
) -> list[Experiment]:
    """Matching experiments, last made first unless ordered otherwise."""
    dialect = conn.dialect.name
    query = select(experiment_rows).where(_among(experiment_rows.c.lifecycle, lifecycles))
    query = query.where(*(_experiment_clause(condition, dialect) for condition in filters.parse(filter_text)))
    order = filters.parse_order(order_by or ["creation_time DESC", "experiment_id ASC"])
    for clause in order:
        if clause.entity != "attribute" or clause.key not in EXPERIMENT_ATTRIBUTES:
            raise Invalid(
                f"Invalid attribute key '{clause.key}' specified. Valid keys are '{sorted(EXPERIMENT_ATTRIBUTES)}'"
            )
        column = EXPERIMENT_ATTRIBUTES[clause.key]
        query = query.order_by(column.desc() if clause.descending else column.asc())
    if all(clause.key != "experiment_id" for clause in order):
        query = query.order_by(experiment_rows.c.id.desc())
    return experiments.load(conn, conn.execute(query.limit(limit).offset(offset)).all())


def _experiment_clause(condition: Condition, dialect: str) -> ColumnElement[bool]:
    entity, key, operator = condition.entity, condition.key, condition.operator
    held = exists().where(experiment_tags.c.experiment_id == experiment_rows.c.id, experiment_tags.c.key == key)
    if operator in ("absent", "present"):
        if entity != "tag":
            raise Invalid(f"IS NULL / IS NOT NULL is only supported for tags, not for attribute '{key}'")
        return ~held if operator == "absent" else held
    if entity == "tag":
        return held.where(filters.text_clause(experiment_tags.c.value, condition, dialect, lists=False))
    if entity != "attribute":
        raise Invalid(f"Invalid entity type '{entity}'. Valid entity types are ('attribute', 'tag', 'tags')")
    if key not in EXPERIMENT_ATTRIBUTES:
        raise Invalid(f"Invalid attribute key '{key}' specified. Valid keys are '{sorted(EXPERIMENT_ATTRIBUTES)}'")
    column = EXPERIMENT_ATTRIBUTES[key]
    if key == "experiment_id":
        return _by_id(condition)
    if key == "name":
        return filters.text_clause(column, condition, dialect, lists=False)
    return filters.number_clause(column, condition, whole=True)


def _by_id(condition: Condition) -> ColumnElement[bool]:
    values = condition.value if isinstance(condition.value, list) else [condition.value]
    if condition.operator not in ("=", "!=", "among", "outside"):
        raise Invalid(f"Invalid comparator for experiment_id: {condition.operator}")
    if not all(str(value).isdigit() for value in values):
        raise Invalid(f"Invalid experiment ID '{values[0]}'. Experiment ID must be a valid integer.")
    column, numbers = experiment_rows.c.id, [int(value) for value in values]
    return column.in_(numbers) if condition.operator in ("=", "among") else column.not_in(numbers)
