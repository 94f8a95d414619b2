"""A signature compiled into a typed decoder: from bytes to one array of numbers, or to columns where there is text.

It knows the common shapes of well-formed requests; whatever it does not take goes the general way, which finds the
words for what is wrong. Both give the same numbers.
"""

from typing import Annotated, Any

import msgspec
import numpy as np

from modelyard.deliver.serving.mlflow_scoring import answer_mlflow
from modelyard.deliver.serving.parsed import Parsed
from modelyard.deliver.serving.signature import Column, Signature

MOST_COLUMNS = 2000
"""Wider rows are checked one by one; a compiled type of that many fields costs more than it saves."""
LONG = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
INTEGER = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
TYPES: dict[str, Any] = {
    "double": float | None,
    "float": float | None,
    "long": LONG,
    "integer": INTEGER,
    "string": str | None,
    "boolean": bool,
}


class Compiled:
    """`decode` gives a request's array or columns, or None when it has to go the general way."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._names = signature.names
        self._dtype = signature.matrix_dtype
        self._numeric = signature.all_numeric
        self._rounds = any(column.type == "float" for column in signature.columns) and self._dtype == np.float64
        row: Any = tuple[tuple(TYPES[column.type] for column in signature.columns)]  # type: ignore[misc]
        record = msgspec.defstruct(
            "Record",
            [_field(i, column) for i, column in enumerate(signature.columns)],
            rename={f"f{i}": name for i, name in enumerate(self._names)},
        )
        split = msgspec.defstruct("Split", [("columns", list[str]), ("data", list[row])])
        unset: Any = msgspec.UNSET
        fields: list[Any] = [
            ("dataframe_split", split | msgspec.UnsetType, unset),
            ("dataframe_records", list[record] | msgspec.UnsetType, unset),
            ("instances", list[record] | msgspec.UnsetType, unset),
            ("inputs", msgspec.Raw | msgspec.UnsetType, unset),
            ("params", msgspec.Raw | msgspec.UnsetType, unset),
        ]
        self._decoder = msgspec.json.Decoder(msgspec.defstruct("Body", fields))
        bare: list[Any] = [("instances", list[row])]
        bare_body = msgspec.defstruct("Bare", bare, forbid_unknown_fields=True)
        self._bare: msgspec.json.Decoder[Any] = msgspec.json.Decoder(bare_body)

    def decode(self, body: bytes) -> Parsed | None:
        try:
            rows = self._rows(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return None
        if rows is None:
            return None
        if not self._numeric:
            values = map(list, zip(*rows, strict=True)) if rows else ([] for _ in self._names)
            return Parsed(dict(zip(self._names, values, strict=True)), len(rows), answer_mlflow)
        matrix = np.array(rows, dtype=self._dtype) if rows else np.empty((0, len(self._names)), self._dtype)
        if self._rounds:
            matrix = self._signature.rounded(matrix)
        return Parsed({}, len(matrix), answer_mlflow, matrix)

    def _rows(self, body: bytes) -> list[Any] | None:
        if body.startswith(b'{"instances":[[') or body.startswith(b'{"instances": [['):
            return self._bare.decode(body).instances
        found: Any = self._decoder.decode(body)
        given = [
            part
            for part in (found.dataframe_split, found.dataframe_records, found.instances)
            if part is not msgspec.UNSET
        ]
        if len(given) != 1 or found.inputs is not msgspec.UNSET or found.params is not msgspec.UNSET:
            return None
        if found.dataframe_split is not msgspec.UNSET:
            return found.dataframe_split.data if found.dataframe_split.columns == self._names else None
        return [msgspec.structs.astuple(record) for record in given[0]]


def _field(index: int, column: Column) -> Any:
    return (f"f{index}", TYPES[column.type])


def compile_signature(signature: Signature) -> Compiled | None:
    """The decoder; None for signatures of times or tensors. Who leaves out a column goes the general way."""
    known = all(column.type in TYPES for column in signature.columns)
    return Compiled(signature) if known and 0 < len(signature.columns) <= MOST_COLUMNS else None
