"""Search over logged models: by attribute, param, tag, and by what runs measured of them on a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, String, case, cast, exists, func, or_, select

from modelyard.build.tracking import artifacts, logged_models
from modelyard.build.tracking.logged_models import LoggedModel
from modelyard.domain.errors import Invalid
from modelyard.store import filters
from modelyard.store.filters import Condition
from modelyard.store.tables.tracking import logged_models as rows
from modelyard.store.tables.tracking import model_metrics, runs

ATTRIBUTES: dict[str, ColumnElement[Any]] = {
    "model_id": rows.c.id,
    "name": rows.c.name,
    "model_type": rows.c.model_type,
    "status": rows.c.status,
    "source_run_id": func.coalesce(rows.c.run_id, ""),
    "experiment_id": cast(rows.c.experiment_id, String),
    "artifact_location": func.coalesce(
        rows.c.elsewhere,
        artifacts.SCHEME + cast(rows.c.experiment_id, String) + "/models/" + rows.c.id + "/artifacts",
    ),
    "creation_time": rows.c.created_at,
    "creation_timestamp": rows.c.created_at,
    "creation_timestamp_ms": rows.c.created_at,
    "last_updated_timestamp": rows.c.updated_at,
    "last_updated_timestamp_ms": rows.c.updated_at,
}
NUMERIC = frozenset(key for key in ATTRIBUTES if key.startswith(("creation_", "last_updated_")))


@dataclass(frozen=True)
class OnDataset:
    """A dataset that metrics are limited to: by name, and by digest where one is given."""

    name: str
    digest: str | None = None

    def clause(self) -> ColumnElement[bool]:
        named = model_metrics.c.dataset_name == self.name
        return named if self.digest is None else named & (model_metrics.c.dataset_digest == self.digest)


@dataclass(frozen=True)
class ModelOrder:
    """An order: an attribute, or `metrics.<key>`, where the last measured value counts."""

    field: str
    ascending: bool = True
    dataset: OnDataset | None = None


def search(
    conn: Connection,
    experiment_ids: Sequence[int],
    filter_text: str = "",
    datasets: Sequence[OnDataset] = (),
    order_by: Sequence[ModelOrder] = (),
    limit: int = 100,
    offset: int = 0,
) -> list[LoggedModel]:
    """Matching logged models, newest first unless ordered otherwise."""
    conditions = filters.parse(filter_text)
    wanted = [rows.c.experiment_id.in_(experiment_ids), ~rows.c.deleted]
    wanted += [_clause(condition, datasets, conn.dialect.name) for condition in conditions]
    if datasets and not any(condition.entity == "metric" for condition in conditions):
        on_any = or_(*(dataset.clause() for dataset in datasets))
        wanted.append(exists().where(model_metrics.c.model_id == rows.c.id, on_any))
    query = select(rows).where(*wanted)
    for order in order_by:
        column = _order_column(order)
        query = query.order_by(
            case((column.is_(None), 1), else_=0), column.asc() if order.ascending else column.desc()
        )
    query = query.order_by(rows.c.created_at.desc(), rows.c.id).limit(limit).offset(offset)
    return logged_models.load(conn.execute(query))


def _clause(condition: Condition, datasets: Sequence[OnDataset], dialect: str) -> ColumnElement[bool]:
    entity, key = condition.entity, condition.key
    if condition.operator in ("absent", "present"):
        raise Invalid(f"Invalid comparison operator for {entity} '{key}': IS NULL.")
    if entity == "attribute":
        if key not in ATTRIBUTES:
            raise Invalid(f"Invalid attribute key '{key}' specified. Valid keys are '{sorted(ATTRIBUTES)}'")
        if key in NUMERIC:
            return filters.number_clause(ATTRIBUTES[key], condition, whole=True)
        return filters.text_clause(ATTRIBUTES[key], condition, dialect)
    if entity == "metric":
        measured = filters.number_clause(model_metrics.c.value, condition)
        on_any = [or_(*(dataset.clause() for dataset in datasets))] if datasets else []
        return exists().where(model_metrics.c.model_id == rows.c.id, model_metrics.c.key == key, measured, *on_any)
    if entity not in ("param", "tag"):
        raise Invalid(f"Invalid entity type: {entity!r}. Expected one of attributes, metrics, params, tags.")
    column = rows.c.params if entity == "param" else rows.c.tags
    return filters.text_clause(column[key].as_string(), condition, dialect)


def _order_column(order: ModelOrder) -> ColumnElement[Any]:
    entity, dot, key = order.field.partition(".")
    if not dot:
        if order.field not in ATTRIBUTES:
            raise Invalid(f"Invalid order by field name: {order.field}")
        return ATTRIBUTES[order.field]
    if entity != "metrics":
        raise Invalid(f"Invalid order by field name: {order.field}. Only metrics are supported.")
    held = model_metrics.alias()
    newest = select(held.c.value).join(runs, runs.c.num == held.c.run)
    newest = newest.where(held.c.model_id == rows.c.id, held.c.key == key.strip("`"))
    if order.dataset is not None:
        newest = newest.where(held.c.dataset_name == order.dataset.name)
        if order.dataset.digest is not None:
            newest = newest.where(held.c.dataset_digest == order.dataset.digest)
    newest = newest.order_by(held.c.time.desc(), held.c.step.desc(), func.coalesce(runs.c.id, "")).limit(1)
    return newest.correlate(rows).scalar_subquery()
