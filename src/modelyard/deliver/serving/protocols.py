"""Request bodies into columns, and predictions into answer bodies: MLflow scoring and Open Inference v2."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from modelyard.deliver.serving.errors import BadInput
from modelyard.deliver.serving.signature import Signature

KEYS = ("dataframe_split", "dataframe_records", "instances", "inputs")
DATATYPES = {
    "float64": "FP64",
    "float32": "FP32",
    "int64": "INT64",
    "int32": "INT32",
    "int8": "INT8",
    "uint8": "UINT8",
    "bool": "BOOL",
    "int16": "INT16",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
}
SIGNATURE_DATATYPES = {"double": "FP64", "float": "FP32", "long": "INT64", "integer": "INT32", "boolean": "BOOL"}


@dataclass(frozen=True, slots=True)
class Parsed:
    """A request ready to predict: its columns, how many rows, and how its answer is written."""

    columns: dict[str, list[Any]]
    rows: int
    answer: Callable[[Any], bytes]


def parse_invocation(body: bytes, content_type: str, signature: Signature) -> Parsed:
    """An MLflow scoring request. Raises BadInput."""
    media, _, rest = content_type.partition(";")
    media = media.strip().lower() or "application/json"
    if rest.strip() and rest.strip().lower() not in ("charset=utf-8", 'charset="utf-8"', "header=present"):
        raise BadInput(f"The content type parameter {rest.strip()!r} is not supported; only charset=utf-8 is.", 415)
    if media == "text/csv":
        columns, rows = _csv(body, signature)
    elif media == "application/json":
        columns, rows = _json(body, signature)
    else:
        raise BadInput(f"The content type {media!r} is not supported. Send application/json or text/csv.", 415)
    return Parsed(signature.take(columns, rows), rows, answer_mlflow)


def answer_mlflow(predictions: Any) -> bytes:
    return msgspec.json.encode({"predictions": plain(predictions)})


def plain(predictions: Any) -> Any:
    """Predictions as JSON values: nested lists of an array, records of a frame."""
    if hasattr(predictions, "to_dict") and hasattr(predictions, "columns"):
        return predictions.to_dict(orient="records")
    return predictions.tolist() if hasattr(predictions, "tolist") else predictions


def _decode(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadInput(f"The body is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise BadInput("The body must be a JSON object.")
    return value


def _json(body: bytes, signature: Signature) -> tuple[dict[str, list[Any]], int]:
    value = _decode(body)
    present = [key for key in KEYS if key in value]
    if len(present) != 1:
        found = ", ".join(present) or ", ".join(list(value)[:5]) or "nothing"
        raise BadInput(f"The body must hold exactly one of {', '.join(KEYS)}; found {found}.")
    content = value[present[0]]
    if present[0] == "dataframe_split":
        return _split(content)
    if present[0] == "inputs" and isinstance(content, dict):
        return _columns(content)
    if not isinstance(content, list):
        raise BadInput(f"{present[0]} must be a list of rows.")
    if present[0] == "dataframe_records" or (content and isinstance(content[0], dict)):
        return _records(content)
    return _rows(content, signature.names)


def _split(content: Any) -> tuple[dict[str, list[Any]], int]:
    if not isinstance(content, dict) or not isinstance(content.get("columns"), list):
        raise BadInput("dataframe_split needs columns and data.")
    return _rows(content.get("data"), [str(name) for name in content["columns"]])


def _rows(data: Any, names: list[str]) -> tuple[dict[str, list[Any]], int]:
    if not isinstance(data, list) or not all(isinstance(row, list) for row in data):
        raise BadInput("data must be a list of rows, each a list of values.")
    for number, row in enumerate(data):
        if len(row) != len(names):
            raise BadInput(f"Row {number} has {len(row)} values; there are {len(names)} columns: {', '.join(names)}.")
    if not data:
        return {name: [] for name in names}, 0
    return {name: list(values) for name, values in zip(names, zip(*data, strict=True), strict=True)}, len(data)


def _records(content: list[Any]) -> tuple[dict[str, list[Any]], int]:
    if not all(isinstance(record, dict) for record in content):
        raise BadInput("Every record must be an object of column names and values.")
    names = {name: None for record in content for name in record}
    return {name: [record.get(name) for record in content] for name in names}, len(content)


def _columns(content: dict[str, Any]) -> tuple[dict[str, list[Any]], int]:
    columns = {name: value if isinstance(value, list) else [value] for name, value in content.items()}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise BadInput(f"The columns have different lengths: {sorted(lengths)}.")
    return columns, lengths.pop() if lengths else 0


def _csv(body: bytes, signature: Signature) -> tuple[dict[str, list[Any]], int]:
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"The body is not CSV in UTF-8: {error}.") from None
    names = signature.names
    if lines and (not names or set(lines[0]) & set(names)):
        names, lines = lines[0], lines[1:]
    columns, rows = _rows(lines, names)
    types = {column.name: column.type for column in signature.columns}
    return {name: [_cell(name, text, types.get(name)) for text in values] for name, values in columns.items()}, rows


def _cell(name: str, text: str, kind: str | None) -> Any:
    if kind == "string":
        return text
    if text == "":
        return None
    if kind == "boolean":
        return text.lower() in ("true", "1")
    try:
        return int(text) if kind in ("long", "integer") else float(text)
    except ValueError:
        if kind is None:
            return text
        raise BadInput(f"Column {name!r}: expected a number, found {text[:40]!r}.") from None


def parse_v2(body: bytes, signature: Signature, model: str, version: str) -> Parsed:
    """An Open Inference Protocol v2 request in JSON. Raises BadInput."""
    value = _decode(body)
    tensors = value.get("inputs")
    if not isinstance(tensors, list) or not tensors or not all(isinstance(item, dict) for item in tensors):
        raise BadInput("inputs must be a list of tensors, each with name, shape, datatype and data.")
    arrays = {str(item.get("name")): _tensor(item) for item in tensors}
    columns: dict[str, list[Any]] = {}
    if len(arrays) == 1 and len(signature.columns) != 1:
        (array,) = arrays.values()
        if array.ndim != 2 or (signature.columns and array.shape[1] != len(signature.columns)):
            raise BadInput(f"The tensor has shape {list(array.shape)}; expected [rows, {len(signature.columns)}].")
        names = signature.names or [str(index) for index in range(array.shape[1])]
        columns = {name: array[:, index].tolist() for index, name in enumerate(names)}
    else:
        for name, array in arrays.items():
            if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1):
                raise BadInput(f"Tensor {name!r} has shape {list(array.shape)}; expected [rows] or [rows, 1].")
            columns[name] = array.reshape(-1).tolist()
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise BadInput(f"The tensors have different numbers of rows: {sorted(lengths)}.")
    identity = value.get("id")
    rows = lengths.pop()

    def answer(predictions: Any) -> bytes:
        array = np.asarray(predictions)
        datatype = DATATYPES.get(str(array.dtype), "BYTES")
        output = {
            "name": "predict",
            "shape": list(array.shape),
            "datatype": datatype,
            "data": array.reshape(-1).tolist(),
        }
        answered: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": [output]}
        if identity is not None:
            answered["id"] = identity
        return msgspec.json.encode(answered)

    return Parsed(signature.take(columns, rows), rows, answer)


def _tensor(item: dict[str, Any]) -> Any:
    shape, data = item.get("shape"), item.get("data")
    if not isinstance(shape, list) or not all(isinstance(size, int) and size >= 0 for size in shape) or data is None:
        raise BadInput(f"Tensor {item.get('name')!r} needs a shape and data.")
    try:
        return np.array(data, dtype=object if item.get("datatype") == "BYTES" else None).reshape(shape)
    except ValueError:
        raise BadInput(f"Tensor {item.get('name')!r}: its data does not fill the shape {shape}.") from None


def describe_v2(model: str, version: str, signature: Signature) -> bytes:
    """The v2 metadata of the model."""
    inputs = [
        {"name": column.name, "datatype": SIGNATURE_DATATYPES.get(column.type, "BYTES"), "shape": [-1]}
        for column in signature.columns
    ]
    outputs = [{"name": "predict", "datatype": "FP64", "shape": [-1]}]
    described = {"name": model, "versions": [version], "platform": "mlflow", "inputs": inputs, "outputs": outputs}
    return msgspec.json.encode(described)
