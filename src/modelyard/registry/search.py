"""Search over registered models and versions in MLflow's filter language."""

from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, or_, select

from modelyard.domain.errors import Invalid
from modelyard.registry import models, versions
from modelyard.registry.models import PROMPT_TAG, Model
from modelyard.registry.versions import Version
from modelyard.store import filters
from modelyard.store.filters import Condition
from modelyard.store.tables.registry import models as model_rows
from modelyard.store.tables.registry import versions as version_rows

MODEL_KEYS: dict[str, Column[Any]] = {"name": model_rows.c.name}
MODEL_ORDERS: dict[str, Column[Any]] = {
    "name": model_rows.c.name,
    "timestamp": model_rows.c.updated_at,
    "creation_timestamp": model_rows.c.created_at,
    "last_updated_timestamp": model_rows.c.updated_at,
}
VERSION_KEYS: dict[str, Column[Any]] = {
    "name": version_rows.c.model,
    "run_id": version_rows.c.run_id,
    "source_path": version_rows.c.source,
    "version_number": version_rows.c.version,
}
VERSION_ORDERS: dict[str, Column[Any]] = {
    "name": version_rows.c.model,
    "version_number": version_rows.c.version,
    "creation_timestamp": version_rows.c.created_at,
    "last_updated_timestamp": version_rows.c.updated_at,
}


def search_models(
    conn: Connection, filter_text: str = "", order_by: list[str] | None = None, limit: int = 100, offset: int = 0
) -> list[Model]:
    """Matching registered models, by name unless ordered otherwise. Prompts only when the filter speaks of them."""
    query = select(model_rows)
    conditions = filters.parse(filter_text)
    for condition in conditions:
        if condition.entity == "attribute" and condition.key in MODEL_KEYS:
            column = MODEL_KEYS[condition.key]
            query = query.where(filters.text_clause(column, condition, conn.dialect.name))
        else:
            query = query.where(_tag_clause(model_rows.c.tags, condition, "name", conn.dialect.name))
    if not _speaks_of_prompts(conditions):
        query = query.where(~models.is_prompt(model_rows.c.tags))
    for column in _orders(order_by or [], MODEL_ORDERS, [("name", False)]):
        query = query.order_by(column)
    return models.load(conn.execute(query.limit(limit).offset(offset)))


def search_versions(
    conn: Connection, filter_text: str = "", order_by: list[str] | None = None, limit: int = 10_000, offset: int = 0
) -> list[Version]:
    """Matching versions, last changed first unless ordered otherwise."""
    query = select(version_rows)
    conditions = filters.parse(filter_text)
    for condition in conditions:
        query = query.where(_version_clause(condition, conn.dialect.name))
    if not _speaks_of_prompts(conditions):
        query = query.where(~models.is_prompt(version_rows.c.tags))
    order = order_by or ["last_updated_timestamp DESC"]
    for column in _orders(order, VERSION_ORDERS, [("name", False), ("version_number", True)]):
        query = query.order_by(column)
    return versions.load(conn, conn.execute(query.limit(limit).offset(offset)).all())


def _version_clause(condition: Condition, dialect: str) -> ColumnElement[bool]:
    if condition.entity != "attribute" or condition.key not in VERSION_KEYS:
        return _tag_clause(version_rows.c.tags, condition, "name', 'run_id', 'source_path', 'version_number", dialect)
    column = VERSION_KEYS[condition.key]
    if condition.key == "version_number":
        if isinstance(condition.value, str) and condition.value.isdigit():
            condition = Condition(condition.entity, condition.key, condition.operator, float(condition.value), True)
        if isinstance(condition.value, float) and not condition.whole:
            raise Invalid(f"Invalid value for numeric attribute 'version_number': {condition.value!r}")
        return filters.number_clause(column, condition, whole=True)
    return filters.text_clause(column, condition, dialect, lists=condition.key in ("name", "run_id"))


def _tag_clause(tags: Column[Any], condition: Condition, known: str, dialect: str) -> ColumnElement[bool]:
    if condition.entity == "attribute":
        raise Invalid(f"Invalid attribute key '{condition.key}' specified. Valid keys are '{known}'")
    if condition.entity != "tag":
        raise Invalid(
            f"Invalid entity type '{condition.entity}'. Valid entity types are ('attribute', 'tag', 'tags')"
        )
    if condition.operator in ("absent", "present"):
        raise Invalid(f"Invalid comparator for tag: {condition.operator}")
    value = tags[condition.key].as_string()
    clause = filters.text_clause(value, condition, dialect, lists=False)
    if condition.key == PROMPT_TAG and (condition.operator, condition.value) in (("=", "false"), ("!=", "true")):
        return or_(value.is_(None), clause)
    return clause


def _speaks_of_prompts(conditions: list[Condition]) -> bool:
    return any(condition.entity == "tag" and condition.key == PROMPT_TAG for condition in conditions)


def _orders(
    texts: list[str], known: dict[str, Column[Any]], last: list[tuple[str, bool]]
) -> list[ColumnElement[Any]]:
    """The order's columns, then `last` where they are not among them."""
    chosen = [(order.key, order.descending) for order in filters.parse_order(texts)]
    for key, _ in chosen:
        if key not in known:
            raise Invalid(f"Invalid order by key '{key}' specified. Valid keys are '{sorted(known)}'")
    chosen += [(key, down) for key, down in last if all(key != taken for taken, _ in chosen)]
    return [known[key].desc() if down else known[key].asc() for key, down in chosen]
