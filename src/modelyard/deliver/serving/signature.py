"""A model's signature, compiled: columns with types, and checks that name the field that is wrong."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelyard.deliver.serving.errors import BadInput

NUMERIC = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}
EXPECTED = {
    "double": "a number",
    "float": "a number",
    "long": "a whole number",
    "integer": "a whole number",
    "boolean": "true or false",
    "string": "text",
    "datetime": "an ISO 8601 time as text",
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


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    required: bool

    def values(self, values: list[Any]) -> list[Any]:
        """The values, checked. Raises BadInput that names the column, the row and what was found."""
        accepted = ACCEPTED.get(self.type)
        if accepted is None or set(map(type, values)) <= accepted:
            return values
        for row, value in enumerate(values):
            if type(value) not in accepted:
                found = "nothing (null)" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
                raise BadInput(f"Column {self.name!r}, row {row}: expected {EXPECTED[self.type]}, found {found}.")
        return values


@dataclass(frozen=True)
class Signature:
    """Input columns by position; empty when the model was logged without a signature or takes a tensor."""

    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def all_numeric(self) -> bool:
        return bool(self.columns) and all(
            column.type in ("double", "float", "long", "integer") for column in self.columns
        )

    def take(self, given: dict[str, list[Any]], rows: int) -> dict[str, list[Any]]:
        """The model's columns out of the given ones; others are dropped. Raises BadInput for a missing column."""
        if not self.columns:
            return given
        taken: dict[str, list[Any]] = {}
        missing = [column.name for column in self.columns if column.required and column.name not in given]
        if missing:
            raise BadInput(f"Missing column(s): {', '.join(missing)}. The model takes: {', '.join(self.names)}.")
        for column in self.columns:
            taken[column.name] = column.values(given.get(column.name, [None] * rows))
        return taken

    def frame(self, columns: dict[str, list[Any]]) -> Any:
        """A DataFrame with the signature's types."""
        import pandas as pd  # late: models of plain numbers are served without it

        frame = pd.DataFrame(columns)
        for column in self.columns:
            if column.type in NUMERIC:
                frame[column.name] = np.asarray(columns[column.name], dtype=NUMERIC[column.type])
            elif column.type == "datetime":
                frame[column.name] = pd.to_datetime(frame[column.name])
        return frame

    def matrix(self, columns: dict[str, list[Any]]) -> Any:
        """An array, shape (rows, columns), of float64; null becomes NaN."""
        return np.array([columns[name] for name in self.names], dtype=np.float64).T


def parse(described: dict[str, Any]) -> Signature:
    """The signature in an MLmodel description."""
    inputs = json.loads((described.get("signature") or {}).get("inputs") or "[]")
    columns = [
        Column(item["name"], item["type"], item.get("required", True))
        for item in inputs
        if "name" in item and item.get("type") != "tensor"
    ]
    return Signature(tuple(columns))
