"""A column of a signature: its type, nested or not, and checks that name the value that is wrong."""

import base64
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelyard.deliver.serving.errors import BadCell, BadInput, Declined

EXPECTED = {
    "double": "a number",
    "float": "a number",
    "long": "a whole number",
    "integer": "a whole number",
    "boolean": "true or false",
    "string": "text",
    "datetime": "an ISO 8601 time as text",
    "binary": "bytes in base64",
}
ACCEPTED: dict[str, frozenset[type]] = {
    "double": frozenset({int, float, type(None)}),
    "float": frozenset({int, float, type(None)}),
    "long": frozenset({int}),
    "integer": frozenset({int}),
    "boolean": frozenset({bool}),
    "string": frozenset({str, type(None)}),
    "datetime": frozenset({str, type(None)}),
}
FOUND = {str: "text", int: "number", float: "number", bool: "boolean", dict: "object"}
WHOLE = {"long": 2**63, "integer": 2**31}
"""Whole numbers from -n to n - 1 fit."""
MOST_FLOAT = int(sys.float_info.max)
MOST_LISTED = 20
ANY = {"type": "any"}


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    required: bool
    nested: dict[str, Any] = field(default_factory=dict, hash=False)
    """MLflow's description of a list, an object or a map."""

    def values(self, values: list[Any]) -> list[Any]:
        """The values, checked; bytes for base64, numbers with a point where a list holds such. Raises BadCell."""
        accepted = ACCEPTED.get(self.type)
        if accepted is None:
            return [self._taken(row, value) for row, value in enumerate(values)]
        if self.type in ("string", "datetime") and float in map(type, values):  # pandas' missing text
            values = [None if value != value else value for value in values]
        if not set(map(type, values)) <= accepted:
            row, value = next((row, value) for row, value in enumerate(values) if type(value) not in accepted)
            raise BadCell(self.name, row, self._misses(value))
        for row, value in enumerate(values):
            if value is not None and not _fits(self.type, value):
                raise BadCell(self.name, row, self._exceeds(value))
        return values

    def wrong(self, value: Any) -> str:
        """What was expected and found of one value; empty when it fits."""
        accepted = ACCEPTED.get(self.type)
        if accepted is None:
            try:
                self._taken(0, value)
            except BadCell as error:
                return error.said
            return ""
        if type(value) not in accepted:
            return self._misses(value)
        return "" if value is None or _fits(self.type, value) else self._exceeds(value)

    def _taken(self, row: int, value: Any) -> Any:
        if (value is None and not self.required) or not (self.nested or self.type == "binary"):
            return value
        try:
            return taken({"type": self.type, **self.nested}, value)
        except BadInput as error:
            raise BadCell(self.name, row, str(error)) from None

    def _misses(self, value: Any) -> str:
        return f"expected {EXPECTED[self.type]}, found {found(value)}."

    def _exceeds(self, value: Any) -> str:
        if self.type == "datetime":
            return self._misses(value)
        return f"{str(value)[:42]} is out of range for {self.type}; expected {EXPECTED[self.type]} that fits."

    def times(self, values: list[Any]) -> Any:
        """The column's texts as times. Raises BadInput for one that pandas does not read, and for several zones."""
        import pandas as pd  # late: models without times are served without it

        try:
            return pd.to_datetime(pd.Series(values, dtype="object"), format="ISO8601")
        except (ValueError, OverflowError):
            for row, value in enumerate(values):
                try:
                    pd.to_datetime([value], format="ISO8601")
                except (ValueError, OverflowError):
                    raise BadCell(self.name, row, self._misses(value)) from None
        raise BadInput(
            f"Column {self.name!r}: the times of one request must all be in the same time zone, or all in none."
        )


@dataclass(frozen=True)
class Param:
    """A parameter of a model's `predict`; `many` when it takes a list."""

    name: str
    type: str
    many: bool = False

    def check(self, value: Any) -> None:
        """Raise Declined for a value that is not of the type; null is the default."""
        if value is None:
            return
        if self.many and not isinstance(value, list):
            raise Declined(f"Parameter {self.name!r}: expected a list, found {found(value)}.")
        column = Column(self.name, self.type, True)
        for one in value if self.many else [value]:
            if said := column.wrong(one):
                raise Declined(f"Parameter {self.name!r}: {said}")


def taken(described: dict[str, Any], value: Any, at: str = "") -> Any:
    """A value of a type that MLflow describes, as the model takes it. Raises BadInput with the place in it."""
    kind, where = described["type"], f"at {at}: " if at else ""
    if kind == "array":
        if not isinstance(value, list):
            raise BadInput(f"{where}expected a list, found {found(value)}.")
        return [taken(described["items"], item, f"{at}[{place}]") for place, item in enumerate(value)]
    if kind in ("object", "map"):
        if not isinstance(value, dict):
            raise BadInput(f"{where}expected an object, found {found(value)}.")
        known = described.get("properties", {}) if kind == "object" else dict.fromkeys(value, described["values"])
        lacks = [name for name, held in known.items() if held.get("required", True) and name not in value]
        if lacks:
            raise BadInput(f"{where}the object lacks {listed(lacks)}.")
        given = {
            name: item
            for name, item in value.items()
            if item is not None or known.get(name, {}).get("required", True)
        }
        return {name: taken(known.get(name, ANY), item, f"{at}.{name}") for name, item in given.items()}
    if kind == "binary" and not isinstance(value, bytes | None):
        return _unpacked(value, where)
    if kind in ACCEPTED and (said := Column("", kind, True).wrong(value)):
        raise BadInput(where + said)
    return float(value) if kind in ("double", "float") and type(value) is int else value


def listed(names: list[str]) -> str:
    """Names for a message: the first of many."""
    more = len(names) - MOST_LISTED
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:MOST_LISTED])} and {more} more"


def _unpacked(value: Any, where: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError):
        raise BadInput(f"{where}expected {EXPECTED['binary']}, found {found(value)}.") from None


def found(value: Any) -> str:
    """A value for a message: what kind it is, and how it begins."""
    if value is None:
        return "nothing (null)"
    return f"{FOUND.get(type(value), type(value).__name__)} {str(value)[:40]!r}"


def check_unique(names: list[str]) -> None:
    """Raise BadInput for a column that is given twice."""
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise BadInput(f"Column {twice!r} is given twice.")


def check_table(names: list[str], rows: list[list[Any]], otherwise: type[BadInput]) -> None:
    """Raise BadInput unless the columns differ, and `otherwise` unless each row has a value for each."""
    check_unique(names)
    for number, row in enumerate(rows):
        if len(row) != len(names):
            raise otherwise(f"Row {number} has {len(row)} values; there are {len(names)} columns: {listed(names)}.")


def _fits(kind: str, value: Any) -> bool:
    if kind in WHOLE:
        return -WHOLE[kind] <= value < WHOLE[kind]
    if kind == "datetime":
        try:
            datetime.fromisoformat(value)
        except ValueError:
            return False
    return not (kind in ("double", "float") and type(value) is int and abs(value) > MOST_FLOAT)
