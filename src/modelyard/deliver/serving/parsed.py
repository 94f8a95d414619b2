"""A request ready to predict, whatever protocol it came by."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: `json_length` is set when raw tensors follow that many bytes of JSON."""

    body: bytes
    type: str = "application/json"
    json_length: int | None = None


@dataclass(slots=True)
class Parsed:
    """Columns by name or one array, how many rows, and how the answer is written."""

    columns: dict[str, Any]
    rows: int
    answer: Callable[[Any], Answer]
    matrix: Any = None
    params: dict[str, Any] | None = None


def encode(value: Any) -> bytes:
    """JSON of what a model answered, with the types of NumPy and pandas in it. Raises TypeError for other types."""
    return msgspec.json.encode(value, enc_hook=_encodable)


def _encodable(value: Any) -> Any:
    if hasattr(value, "tolist"):  # an array, or one of NumPy's numbers
        return value.tolist()
    if hasattr(value, "isoformat"):  # a time of pandas'; one that is missing is none
        return value.isoformat() if value == value else None
    if type(value).__name__ == "NAType":
        return None
    raise TypeError(f"the model answered a {type(value).__name__}, which JSON cannot hold")


class NamedRows(dict[str, Any]):
    """Arrays by the name of an output, which MLflow's clients get as one record a row."""


def plain(predictions: Any) -> Any:
    """Predictions as JSON values: nested lists of an array, records of a frame."""
    if hasattr(predictions, "to_dict") and hasattr(predictions, "columns"):
        return predictions.to_dict(orient="records")
    if isinstance(predictions, NamedRows):
        lists = {name: _flat(value).tolist() for name, value in predictions.items()}
        return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    if isinstance(predictions, dict):
        return {name: plain(value) for name, value in predictions.items()}
    return predictions.tolist() if hasattr(predictions, "tolist") else predictions


def columns(predictions: Any) -> list[tuple[str, list[Any]]]:
    """Columns of predictions: `prediction`, `prediction_0` and on for several values a row, or by their names."""
    if hasattr(predictions, "columns") or isinstance(predictions, dict):
        names = list(predictions)  # a frame's columns, a dictionary's keys
        return [(f"prediction_{name}", np.asarray(predictions[name]).tolist()) for name in names]
    array = np.asarray(predictions)
    if array.ndim == 2:
        return [(f"prediction_{index}", array[:, index].tolist()) for index in range(array.shape[1])]
    return [("prediction", array.tolist())]


def rows_of(predictions: Any) -> int:
    """How many rows were answered."""
    return len(next(iter(predictions.values()))) if isinstance(predictions, dict) else len(predictions)


def part(predictions: Any, start: int, end: int) -> Any:
    """The rows from `start` to before `end`."""
    if isinstance(predictions, dict):
        return type(predictions)({name: value[start:end] for name, value in predictions.items()})
    return predictions[start:end]


def _flat(value: Any) -> Any:
    array = np.asarray(value)
    return array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array
