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
    if hasattr(value, "model_dump"):  # what MLflow's type hints are made of
        return value.model_dump()
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


def by_name(predictions: Any) -> dict[str, Any]:
    """Columns by the names of the outputs, of a frame, a dictionary, or records alike; others under an empty name.

    What is no rows is one: a value, a text, a dictionary of them.
    """
    if hasattr(predictions, "columns"):
        return {str(name): predictions[name] for name in predictions.columns}
    if isinstance(predictions, dict):
        return {str(name): [value] if _length(value) is None else value for name, value in predictions.items()}
    if _length(predictions) is None:
        return {"": [predictions]}
    names = _names(predictions)
    return {name: [row[name] for row in predictions] for name in names} if names else {"": predictions}


def _names(predictions: Any) -> list[str]:
    """The names that all rows have; none where they differ, or rows have none."""
    if not isinstance(predictions, list) or not predictions or type(predictions[0]) is not dict:
        return []
    names = list(predictions[0])
    alike = all(type(row) is dict and list(row) == names for row in predictions)
    return names if alike and all(isinstance(name, str) for name in names) else []


def columns(predictions: Any) -> list[tuple[str, list[Any]]]:
    """Columns of predictions: `prediction`, `prediction_0` and on for several values a row, or by their names."""
    found: list[tuple[str, list[Any]]] = []
    for name, values in by_name(predictions).items():
        title = f"prediction_{name}" if name else "prediction"
        array = array_of(values)
        if array.ndim == 2 and not name:
            found += [(f"{title}_{index}", array[:, index].tolist()) for index in range(array.shape[1])]
        else:
            found.append((title, array.tolist()))
    return found


def array_of(values: Any) -> Any:
    """An array; of lists of different lengths one of these lists."""
    try:
        return np.asarray(values)
    except ValueError:
        return np.fromiter(values, dtype=object, count=len(values))


def rows_of(predictions: Any) -> int | None:
    """How many rows were answered; None for what is no rows: one value, a text, a dictionary of such."""
    if not isinstance(predictions, dict):
        return _length(predictions)
    lengths = {_length(value) for value in predictions.values()}
    return lengths.pop() if len(lengths) == 1 else None


def _length(values: Any) -> int | None:
    if isinstance(values, list | tuple):
        return len(values)
    shape = getattr(values, "shape", ())  # of an array, a frame, a tensor
    return shape[0] if shape else None


def part(predictions: Any, start: int, end: int) -> Any:
    """The rows from `start` to before `end`."""
    if isinstance(predictions, dict):
        return type(predictions)({name: value[start:end] for name, value in predictions.items()})
    return predictions[start:end]


def _flat(value: Any) -> Any:
    array = np.asarray(value)
    return array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array
