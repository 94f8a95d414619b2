"""MLflow's filter language over runs: `metrics.auc > 0.7 AND params."depth" = '4' AND tags.team LIKE 'ml%'`.

Parsed by a grammar in linear time; every value is a bound parameter.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, Table, and_, func, select
from sqlalchemy.sql.expression import FromClause

from modelyard.build.tracking import runs as run_store
from modelyard.build.tracking.runs import Run
from modelyard.domain.errors import Invalid
from modelyard.store.tables.tracking import latest_metrics, run_inputs, run_params, run_tags, runs

GRAMMAR = r"""
start: (condition (_AND condition)*)?
condition: key OPERATOR value       -> comparison
         | key _IN "(" [value ("," value)*] ")"   -> among
         | key _NOT _IN "(" [value ("," value)*] ")"   -> outside
         | key _IS _NULL             -> absent
         | key _IS _NOT _NULL        -> present
key: part ("." part)*
part: NAME | QUOTED_NAME | DOUBLE
value: STRING | DOUBLE | NUMBER
_AND.2: /AND\b/i
_IN.2: /IN\b/i
_NOT.2: /NOT\b/i
_IS.2: /IS\b/i
_NULL.2: /NULL\b/i
OPERATOR.3: "!=" | "<=" | ">=" | "=" | "<" | ">" | /I?LIKE\b/i
NAME: /[A-Za-z_][\w\-\/]*/
QUOTED_NAME: /`[^`]*`/
STRING: /'[^']*'/
DOUBLE: /"[^"]*"/
NUMBER: /-?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?/
%import common.WS
%ignore WS
"""
MOST_FILTER = 20_000
ENTITIES = {
    "attribute": "attributes",
    "attributes": "attributes",
    "attr": "attributes",
    "run": "attributes",
    "metric": "metrics",
    "metrics": "metrics",
    "param": "params",
    "params": "params",
    "parameter": "params",
    "parameters": "params",
    "tag": "tags",
    "tags": "tags",
    "dataset": "datasets",
    "datasets": "datasets",
}
ATTRIBUTES: dict[str, Column[Any]] = {
    "run_id": runs.c.id,
    "id": runs.c.id,
    "run_name": runs.c.name,
    "name": runs.c.name,
    "Run name": runs.c.name,
    "run name": runs.c.name,
    "status": runs.c.status,
    "user_id": runs.c.user_id,
    "User": runs.c.user_id,
    "start_time": runs.c.started_at,
    "created": runs.c.started_at,
    "Created": runs.c.started_at,
    "end_time": runs.c.ended_at,
}
NUMERIC = frozenset({"start_time", "created", "Created", "end_time"})
TEXT_OPERATORS = frozenset({"=", "!=", "LIKE", "ILIKE"})


@dataclass(frozen=True)
class Condition:
    entity: str
    key: str
    operator: str
    value: Any


def parse(text: str) -> list[Condition]:
    """The conditions of a filter, all of which must hold. Raises Invalid that points at the mistake."""
    if len(text) > MOST_FILTER:
        raise Invalid(f"The filter is longer than {MOST_FILTER} characters.")
    from lark.exceptions import LarkError  # late: only searches need the parser

    parser = _parser()
    try:
        tree = parser.parse(text)
    except LarkError as error:
        column = getattr(error, "column", 0)
        near = text[max(0, column - 1) : column + 30] if column and column > 0 else text[-30:]
        raise Invalid(
            f"Invalid filter string: {text[:200]!r}, near {near!r}.",
            remedy="Write conditions such as metrics.auc > 0.7 AND params.depth = '4', joined by AND.",
        ) from error
    return [_condition(node) for node in tree.children]


@cache
def _parser() -> Any:
    from lark import Lark  # late: only searches need the parser

    return Lark(GRAMMAR, parser="lalr")


def _condition(node: Any) -> Condition:
    entity, key = _key(node.children[0])
    if node.data in ("absent", "present"):
        return Condition(entity, key, node.data, None)
    if node.data in ("among", "outside"):
        return Condition(entity, key, node.data, [_value(child) for child in node.children[1:] if child is not None])
    return Condition(entity, key, str(node.children[1]).upper(), _value(node.children[2]))


def _key(node: Any) -> tuple[str, str]:
    parts = [_unquoted(part.children[0].type, str(part.children[0])) for part in node.children]
    if len(parts) == 1:
        return "attributes", parts[0]
    entity = ENTITIES.get(parts[0].lower())
    if entity is None:
        raise Invalid(
            f"Invalid entity type '{parts[0]}'.", remedy="Use metrics, params, tags, attributes or datasets."
        )
    return entity, ".".join(parts[1:])


def _unquoted(kind: str, text: str) -> str:
    return text[1:-1] if kind in ("QUOTED_NAME", "DOUBLE") else text


def _value(node: Any) -> str | float:
    token = node.children[0]
    return float(token) if token.type == "NUMBER" else str(token)[1:-1]


def where(conditions: list[Condition], dialect: str) -> list[ColumnElement[bool]]:
    """SQL of parsed conditions. Raises Invalid for an operator or value that does not fit."""
    return [_clause(condition, dialect) for condition in conditions]


def _clause(condition: Condition, dialect: str) -> ColumnElement[bool]:
    if condition.entity == "attributes":
        column = ATTRIBUTES.get(condition.key)
        if column is None:
            known = ", ".join(sorted(name for name in ATTRIBUTES if name.islower()))
            raise Invalid(f"Invalid attribute key '{condition.key}'.", remedy=f"Valid keys: {known}.")
        return _compare(column, condition, condition.key in NUMERIC, dialect)
    if condition.entity == "metrics":
        return _exists(latest_metrics, latest_metrics.c.value, condition, True, dialect)
    if condition.entity == "params":
        return _exists(run_params, run_params.c.value, condition, False, dialect)
    if condition.entity == "tags":
        return _exists(run_tags, run_tags.c.value, condition, False, dialect)
    if condition.key not in ("name", "digest"):
        raise Invalid(f"Invalid dataset key '{condition.key}'.", remedy="Valid keys: name, digest.")
    matching = _compare(run_inputs.c[condition.key], condition, False, dialect)
    return runs.c.num.in_(select(run_inputs.c.run).where(run_inputs.c.kind == "dataset", matching))


def _exists(
    table: Table, column: Column[Any], condition: Condition, numeric: bool, dialect: str
) -> ColumnElement[bool]:
    held = select(table.c.run).where(table.c.key == condition.key)
    if condition.operator == "absent":
        return runs.c.num.not_in(held)
    if condition.operator == "present":
        return runs.c.num.in_(held)
    return runs.c.num.in_(held.where(_compare(column, condition, numeric, dialect)))


def _compare(column: Column[Any], condition: Condition, numeric: bool, dialect: str) -> ColumnElement[bool]:
    operator, value = condition.operator, condition.value
    if operator in ("absent", "present"):
        return column.is_(None) if operator == "absent" else column.is_not(None)
    if operator in ("among", "outside"):
        if not value or numeric or not all(isinstance(item, str) for item in value):
            raise Invalid(f"{condition.key}: a list holds one or more quoted strings.")
        return column.in_(value) if operator == "among" else column.not_in(value)
    if numeric != isinstance(value, float):
        kind = "a number" if numeric else "a quoted string"
        raise Invalid(f"Invalid value for {condition.entity}.{condition.key}: expected {kind}, got {value!r}.")
    if not numeric and operator not in TEXT_OPERATORS:
        raise Invalid(f"{operator} does not compare text.", remedy="Use =, !=, LIKE or ILIKE.")
    if numeric and operator in ("LIKE", "ILIKE"):
        raise Invalid(f"{operator} does not compare numbers.", remedy="Use =, !=, <, <=, > or >=.")
    if operator in ("LIKE", "ILIKE"):
        return _like(column, value, operator == "LIKE", dialect)
    comparisons = {
        "=": column == value,
        "!=": column != value,
        "<": column < value,
        "<=": column <= value,
        ">": column > value,
        ">=": column >= value,
    }
    return comparisons[operator]


def _like(column: Column[Any], pattern: str, exact_case: bool, dialect: str) -> ColumnElement[bool]:
    if not exact_case:
        return column.ilike(pattern)
    if dialect != "sqlite":
        return column.like(pattern)
    # SQLite's LIKE ignores case: GLOB compares exactly, with its own wildcards
    translated = re.sub(r"[*?\[]", lambda found: f"[{found[0]}]", pattern).replace("%", "*").replace("_", "?")
    return column.op("GLOB", is_comparison=True)(translated)


ORDER = re.compile(r"^\s*(?P<key>.+?)(?:\s+(?P<way>ASC|DESC))?\s*$", re.IGNORECASE)


def search_runs(
    conn: Connection,
    experiment_ids: list[int],
    filter_text: str = "",
    lifecycles: tuple[str, ...] = ("active",),
    order_by: list[str] | None = None,
    limit: int = 1000,
    offset: int = 0,
) -> list[Run]:
    """Matching runs with params, tags and newest metrics; newest first unless ordered otherwise."""
    query: Select[Any] = select(runs).where(
        runs.c.experiment_id.in_(experiment_ids), runs.c.lifecycle.in_(lifecycles)
    )
    query = query.where(*where(parse(filter_text), conn.dialect.name))
    query = _ordered(query, order_by or [])
    return run_store.load(conn, conn.execute(query.limit(limit).offset(offset)).all())


def _ordered(query: Select[Any], order_by: list[str]) -> Select[Any]:
    source: FromClause = runs
    clauses: list[ColumnElement[Any]] = []
    for text in order_by:
        found = ORDER.match(text)
        parsed = parse(f"{found['key']} = ''" if found else "") if found else []
        if not found or len(parsed) != 1:
            raise Invalid(f"Invalid order_by clause {text[:100]!r}.", remedy="Write such as metrics.auc DESC.")
        descending = (found["way"] or "ASC").upper() == "DESC"
        entity, key = parsed[0].entity, parsed[0].key
        if entity == "attributes":
            if key not in ATTRIBUTES:
                raise Invalid(f"Invalid attribute key '{key}' in order_by.")
            column: ColumnElement[Any] = ATTRIBUTES[key]
        else:
            table = {"metrics": latest_metrics, "params": run_params, "tags": run_tags}.get(entity)
            if table is None:
                raise Invalid(f"Runs are not ordered by {entity}.")
            held = table.alias()
            source = source.outerjoin(held, and_(held.c.run == runs.c.num, held.c.key == key))
            column = held.c.value
        clauses += [column.is_(None), column.desc() if descending else column.asc()]
    query = query.select_from(source) if order_by else query
    return query.order_by(*clauses, runs.c.started_at.desc(), runs.c.id)


def count(conn: Connection, experiment_id: int) -> int:
    """How many active runs an experiment has."""
    query = select(func.count()).select_from(runs)
    return conn.execute(query.where(runs.c.experiment_id == experiment_id, runs.c.lifecycle == "active")).scalar_one()
