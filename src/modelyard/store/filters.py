"""MLflow's filter language: `metrics.auc > 0.7 AND params."depth" = '4' AND tags.team LIKE 'ml%'`.

Parsed by a grammar in linear time; every value becomes a bound parameter.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import ColumnElement

from modelyard.domain.errors import Invalid

GRAMMAR = r"""
filter: _AND? (condition (_AND condition)* _AND?)?
condition: key OPERATOR value       -> comparison
         | key _IN "(" value ("," value)* ","? ")"   -> among
         | key _NOT _IN "(" value ("," value)* ","? ")"   -> outside
         | key _IS _NULL             -> absent
         | key _IS _NOT _NULL        -> present
order: key WAY?
key: part ("." part)*
part: NAME | QUOTED_NAME | DOUBLE
value: STRING | DOUBLE | NUMBER
WAY.3: /(ASC|DESC)(?![\w.])/i
_AND.3: /AND(?![\w.])/i
_IN.3: /IN(?![\w.])/i
_NOT.3: /NOT(?![\w.])/i
_IS.3: /IS(?![\w.])/i
_NULL.3: /NULL(?![\w.])/i
OPERATOR.3: "!=" | "<=" | ">=" | "=" | "<" | ">" | /I?LIKE(?![\w.])/i
NAME: /[A-Za-z_0-9][\w\-\/:]*/
QUOTED_NAME: /`[^`]*`/
STRING: /'(''|[^'])*'/
DOUBLE: /"(""|[^"])*"/
NUMBER.2: /-?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?(?![\w.])/
%import common.WS
%ignore WS
"""
MOST_FILTER = 20_000
TEXT_OPERATORS = frozenset({"=", "!=", "LIKE", "ILIKE"})
NUMBER_OPERATORS = frozenset({"=", "!=", "<", "<=", ">", ">="})
SPELLINGS = {
    "attribute": "attribute",
    "attributes": "attribute",
    "attr": "attribute",
    "run": "attribute",
    "metric": "metric",
    "metrics": "metric",
    "param": "param",
    "params": "param",
    "parameter": "param",
    "parameters": "param",
    "tag": "tag",
    "tags": "tag",
    "dataset": "dataset",
    "datasets": "dataset",
}


@dataclass(frozen=True)
class Condition:
    """`operator` is one of =, !=, <, <=, >, >=, LIKE, ILIKE, among, outside, absent, present."""

    entity: str
    key: str
    operator: str
    value: Any
    whole: bool = False
    """Whether a number was written without point and exponent."""


@dataclass(frozen=True)
class Order:
    entity: str
    key: str
    descending: bool


def parse(text: str) -> list[Condition]:
    """The conditions of a filter, all of which must hold. Raises Invalid that points at the mistake."""
    if not text.strip():
        return []
    if len(text) > MOST_FILTER:
        raise Invalid(f"The filter is longer than {MOST_FILTER} characters.")
    return [_condition(node) for node in _tree(text, "filter").children]


def parse_order(texts: list[str]) -> list[Order]:
    """The clauses of an order: `metrics.auc DESC`. Raises Invalid for one that is wrong or comes twice."""
    found: list[Order] = []
    for text in texts:
        node = _tree(text[:MOST_FILTER], "order")
        entity, key = _key(node.children[0])
        descending = len(node.children) > 1 and str(node.children[1]).upper() == "DESC"
        if any((order.entity, order.key) == (entity, key) for order in found):
            raise Invalid(f"`order_by` contains duplicate fields: {texts}")
        found.append(Order(entity, key, descending))
    return found


def _tree(text: str, start: str) -> Any:
    from lark.exceptions import LarkError  # late: only searches need the parser

    try:
        return _parser().parse(text, start=start)
    except LarkError as error:
        column = getattr(error, "column", 0)
        near = text[max(0, column - 1) : column + 40] if column and column > 0 else text[-40:]
        if start == "order":
            raise Invalid(
                f"Invalid order_by clause '{text[:200]}'. Could not be parsed.",
                remedy="Write a key, then ASC or DESC: metrics.auc DESC.",
            ) from error
        raise Invalid(
            f"Invalid filter string: {text[:200]!r}. Invalid clause(s) in filter string: {near!r}.",
            remedy="Write conditions such as metrics.auc > 0.7 AND params.depth = '4', joined by AND.",
        ) from error


def warm_up() -> None:
    """Make the parser now (0.1 s), so that the first search need not."""
    _parser()


@cache
def _parser() -> Any:
    from lark import Lark  # late: only searches need the parser

    return Lark(GRAMMAR, parser="lalr", start=["filter", "order"])


def _condition(node: Any) -> Condition:
    entity, key = _key(node.children[0])
    if node.data in ("absent", "present"):
        return Condition(entity, key, node.data, None)
    if node.data in ("among", "outside"):
        return Condition(entity, key, node.data, [_value(child) for child in node.children[1:] if child is not None])
    token = node.children[2].children[0]
    whole = token.type == "NUMBER" and not set(token) & set(".eE")
    return Condition(entity, key, str(node.children[1]).upper(), _value(node.children[2]), whole)


def _key(node: Any) -> tuple[str, str]:
    parts = [_unquoted(part.children[0].type, str(part.children[0])) for part in node.children]
    if len(parts) == 1:
        return "attribute", parts[0]
    entity = SPELLINGS.get(parts[0])
    if entity is None:
        raise Invalid(
            f"Invalid entity type '{parts[0]}'. Valid values are "
            "['metric', 'parameter', 'tag', 'attribute', 'dataset']"
        )
    return entity, ".".join(parts[1:])


def _unquoted(kind: str, text: str) -> str:
    return text[1:-1] if kind in ("QUOTED_NAME", "DOUBLE") else text


def _value(node: Any) -> str | float:
    token = node.children[0]
    if token.type != "NUMBER":
        return str(token)[1:-1]
    return float(token)


def text_clause(column: ColumnElement[Any], condition: Condition, dialect: str, lists: bool = True) -> Any:
    """A comparison of text as SQL. Raises Invalid for an operator or value that does not fit."""
    operator, value = condition.operator, condition.value
    shown = "IN" if operator == "among" else "NOT IN" if operator == "outside" else operator
    if operator in ("among", "outside"):
        if not lists:
            raise Invalid(f"Invalid comparator '{shown}' for {condition.entity} '{condition.key}'.")
        if not all(isinstance(item, str) for item in value):
            raise Invalid("While parsing a list in the query, expected string value, but got another type.")
        return column.in_(value) if operator == "among" else column.not_in(value)
    if operator not in TEXT_OPERATORS:
        raise Invalid(f"Invalid comparator '{shown}' not one of {sorted(TEXT_OPERATORS)}")
    if not isinstance(value, str):
        raise Invalid(
            f"Expected a quoted string value for {condition.entity} '{condition.key}' (e.g. 'my-value'). "
            f"Got value {value:g}"
        )
    if operator == "LIKE":
        return _like(column, value, dialect)
    if operator == "ILIKE":
        return column.ilike(value)
    return column == value if operator == "=" else column != value


def number_clause(column: ColumnElement[Any], condition: Condition, whole: bool = False) -> Any:
    """A comparison of numbers as SQL. Raises Invalid for an operator or value that does not fit."""
    operator, value = condition.operator, condition.value
    if operator not in NUMBER_OPERATORS:
        raise Invalid(f"Invalid comparator '{operator}' not one of {sorted(NUMBER_OPERATORS)}")
    if not isinstance(value, float):
        raise Invalid(f"Expected numeric value type for {condition.entity} '{condition.key}'. Found {value!r}")
    bound: Any = int(value) if whole and condition.whole else value
    comparisons: Mapping[str, Any] = {
        "=": column == bound,
        "!=": column != bound,
        "<": column < bound,
        "<=": column <= bound,
        ">": column > bound,
        ">=": column >= bound,
    }
    return comparisons[operator]


def _like(column: ColumnElement[Any], pattern: str, dialect: str) -> Any:
    if dialect != "sqlite":
        return column.like(pattern)
    # SQLite's LIKE ignores case: GLOB compares exactly, with its own wildcards
    translated = re.sub(r"[*?\[]", lambda found: f"[{found[0]}]", pattern).replace("%", "*").replace("_", "?")
    return column.op("GLOB", is_comparison=True)(translated)


class Position(msgspec.Struct, omit_defaults=True):
    """Where a page starts. `until` is the newest row of the first page: what is added later moves no page."""

    offset: int
    until: int = 0


def page_token(position: Position) -> str:
    return base64.b64encode(msgspec.json.encode(position)).decode()


def read_token(token: str) -> Position:
    """Raises Invalid for what `page_token` did not make."""
    if not token:
        return Position(0)
    try:
        decoded = base64.b64decode(token, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid("Invalid page token, could not base64-decode") from None
    try:
        position = msgspec.json.decode(decoded, type=Position)
    except msgspec.DecodeError:
        raise Invalid(f"Invalid page token, decoded value={decoded[:100]!r}") from None
    if not 0 <= position.offset < 2**53:
        raise Invalid(f"Invalid page token, decoded value={decoded[:100]!r}")
    return position
