"""A model's signature: columns with types or a tensor, and checks that name the field that is wrong."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from modelyard.deliver.serving.columns import Column, Param, found, listed
from modelyard.deliver.serving.errors import BadInput, Declined
from modelyard.kit.classes import class_text

NUMERIC = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a model that takes arrays; -1 is a dimension of any size; unnamed when it is the only one."""

    dtype: str
    shape: tuple[int, ...]
    name: str = ""

    def array(self, given: Any) -> Any:
        """The values as an array of the type and shape. Raises BadInput."""
        label = f"Tensor {self.name!r}" if self.name else "The input"
        try:
            array = np.asarray(given, dtype=object if self.dtype == "str" else None)
        except ValueError:
            raise BadInput(f"{label} is not regular: its rows have different lengths.") from None
        if array.size == 0 and len(self.shape) > 1:
            array = array.reshape([0, *[max(size, 0) for size in self.shape[1:]]])
        fits = array.ndim == len(self.shape) and all(
            wanted in (-1, found) for wanted, found in zip(self.shape, array.shape, strict=True)
        )
        if not fits:
            raise Declined(f"{label} has shape {list(array.shape)}; expected {list(self.shape)}.")
        wanted = np.dtype(self.dtype) if self.dtype not in ("str", "object") else np.dtype(object)
        if array.size and wanted.kind != "O" and not _castable(array, wanted):
            raise Declined(f"{label}{_misfit(given, wanted)}")
        with np.errstate(over="ignore"):  # too large for single precision is infinite, as in a column
            array = array.astype(wanted)
        if self.dtype == "str":
            place = next((place for place, value in np.ndenumerate(array) if type(value) is not str), None)
            if place is not None:
                raise Declined(f"{label}, at {list(place)}: expected text, found {found(array[place])}.")
        return array


@dataclass(frozen=True)
class Signature:
    """Input columns by position, or tensors; both empty when the model was logged without a signature."""

    columns: tuple[Column, ...]
    tensors: tuple[Tensor, ...] = ()
    params: tuple[Param, ...] = ()
    outputs: tuple[dict[str, Any], ...] = ()
    classes: tuple[str, ...] = ()
    """A classifier's classes as text, in the order of its probabilities; from the MLmodel's metadata."""
    item: Column | None = None
    """What a row is, for a `predict` whose type hint is a list; it has no name."""

    @cached_property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @cached_property
    def all_numeric(self) -> bool:
        return bool(self.columns) and all(
            column.type in ("double", "float", "long", "integer") for column in self.columns
        )

    @property
    def one_tensor(self) -> Tensor | None:
        """The tensor of a model that takes a single array."""
        return self.tensors[0] if len(self.tensors) == 1 else None

    def take(self, given: dict[str, list[Any]], rows: int) -> dict[str, list[Any]]:
        """The model's columns out of the given ones; others are dropped. Raises BadInput for a missing column."""
        if not self.columns:
            return given
        missing = [column.name for column in self.columns if column.required and column.name not in given]
        if missing:
            raise Declined(f"Missing column(s): {listed(missing)}. The model takes: {listed(self.names)}.")
        return {
            column.name: column.values(given[column.name]) if column.name in given else [None] * rows
            for column in self.columns
        }

    def wrong_rows(self, given: dict[str, list[Any]]) -> dict[int, str]:
        """What is wrong with each row that does not fit, the first of its columns that does not."""
        found: dict[int, str] = {}
        for column in self.columns:
            for row, value in enumerate(given.get(column.name, ())):
                if row not in found and (said := column.wrong(value)):
                    found[row] = f"Column {column.name!r}: {said}"
        return found

    def frame(self, columns: dict[str, list[Any]]) -> Any:
        """A DataFrame with the signature's types; a whole number that is unknown makes its column one of floats."""
        import pandas as pd  # late: models of plain numbers are served without it

        typed: dict[str, Any] = dict(columns)
        text = pd.Series(["text"]).dtype
        for column in self.columns:
            values = columns[column.name]
            if column.type == "string":  # of nothing but nulls, too: alone or among others, a row is the same
                typed[column.name] = pd.Series(values, dtype=text)
            if column.type in NUMERIC:
                dtype = NUMERIC[column.type]
                if column.type in ("long", "integer", "boolean") and None in values:
                    dtype = "object" if column.type == "boolean" else "float64"
                with np.errstate(over="ignore"):
                    typed[column.name] = np.asarray(values, dtype=dtype)
            if column.type == "datetime":
                typed[column.name] = column.times(values)
        return pd.DataFrame(typed)

    @cached_property
    def matrix_dtype(self) -> np.dtype[Any]:
        """The type that a frame of these columns becomes as an array."""
        if not self.all_numeric:
            return np.dtype(np.float64)
        optional = [np.dtype(np.float64)] if not all(column.required for column in self.columns) else []
        return np.result_type(*[np.dtype(NUMERIC[column.type]) for column in self.columns], *optional)

    def matrix(self, columns: dict[str, list[Any]]) -> Any:
        """An array, shape (rows, columns), of the common type; null becomes NaN."""
        array = np.array([columns[name] for name in self.names], dtype=self.matrix_dtype).T
        return self.rounded(array)

    def rounded(self, matrix: Any) -> Any:
        """The matrix with its `float` columns rounded to single precision, as a frame's would be."""
        if matrix.dtype == np.float64:
            with np.errstate(over="ignore"):  # too large for single precision is infinite, as in a frame
                for index, column in enumerate(self.columns):
                    if column.type == "float":
                        matrix[:, index] = matrix[:, index].astype(np.float32)
        return matrix


def _castable(array: Any, wanted: "np.dtype[Any]") -> bool:
    if wanted.kind == "f":
        return array.dtype.kind in "fiu"
    if wanted.kind in "iu":
        if array.dtype.kind not in "iu":
            return False
        bounds = np.iinfo(wanted)
        return bool(array.min() >= bounds.min and array.max() <= bounds.max)
    return array.dtype.kind == wanted.kind


def _misfit(given: Any, wanted: "np.dtype[Any]") -> str:
    """Where the first value stands that is not of the wanted type, and what it is."""
    kinds = {"f": "a number", "i": "a whole number", "u": "a whole number", "b": "true or false"}
    for place, value in np.ndenumerate(np.array(given, dtype=object)):
        if not _castable(np.asarray(value), wanted):
            kind = kinds.get(wanted.kind, "text")
            return f", at {list(place)}: expected {kind} of type {wanted}, found {found(value)}."
    return f": expected values of type {wanted}."


def parse(described: dict[str, Any]) -> Signature:
    """The signature in an MLmodel description."""
    held = described.get("signature") or {}
    inputs = json.loads(held.get("inputs") or "[]")
    columns = [
        Column(item["name"], item["type"], item.get("required", True), _nested(item))
        for item in inputs
        if "name" in item and item.get("type") != "tensor"
    ]
    tensors = [
        Tensor(item["tensor-spec"]["dtype"], tuple(item["tensor-spec"]["shape"]), item.get("name") or "")
        for item in inputs
        if item.get("type") == "tensor"
    ]
    params = [
        Param(item["name"], item.get("type", ""), item.get("shape") is not None)
        for item in json.loads(held.get("params") or "[]")
    ]
    outputs = json.loads(held.get("outputs") or "[]")
    named = (described.get("metadata") or {}).get("classes") or []
    classes = tuple(class_text(value) for value in named) if isinstance(named, list) else ()
    hinted = described.get("is_signature_from_type_hint") and len(inputs) == 1 and "name" not in inputs[0]
    item = Column("", inputs[0]["type"], True, _nested(inputs[0])) if hinted else None
    return Signature(tuple(columns), tuple(tensors), tuple(params), tuple(outputs), classes, item)


def _nested(described: dict[str, Any]) -> dict[str, Any]:
    return {key: described[key] for key in ("items", "properties", "values") if key in described}
