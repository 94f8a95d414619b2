"""Columns that are never written to the prediction log, taken out of request bodies."""

import csv
import io
from typing import Any

import msgspec

from modelyard.deliver.serving.bodies import decode_json, lines_of
from modelyard.deliver.serving.errors import BadInput


def redact(body: bytes, path: str, content_type: str, names: frozenset[str], columns: tuple[str, ...] = ()) -> bytes:
    """The request without the named columns, as JSON or CSV; empty when they cannot be told apart from the others.

    columns: the model's, in their order, of which rows without names are; where it has none, these cannot. One tensor
    of all columns, raw ones, Parquet and Arrow streams cannot either.
    """
    media = content_type.partition(";")[0].strip().lower()
    if media == "text/csv":
        return _csv(body, names, columns)
    if "parquet" in media or "arrow" in media:
        return b""  # to take a column out, the gateway would need pyarrow
    try:
        value = decode_json(body)
    except BadInput:
        return b""
    if path.endswith("/infer"):
        cleaned = _tensors(value, names)
    elif path == "predict" and isinstance(value, dict):
        cleaned = {name: item for name, item in value.items() if name not in names}
    else:
        cleaned = _rows(value, names, columns)
    return b"" if cleaned is None else msgspec.json.encode(cleaned)


def _csv(body: bytes, names: frozenset[str], columns: tuple[str, ...]) -> bytes:
    try:
        lines = lines_of(body)
    except BadInput:
        return b""
    if not lines:
        return b""
    if not set(lines[0]) & set(columns or names):  # no header, as a worker takes it
        if not columns or not all(len(line) == len(columns) for line in lines):
            return b""
        lines = [list(columns), *lines]
    out = io.StringIO()
    kept = [index for index, name in enumerate(lines[0]) if name not in names]
    csv.writer(out, lineterminator="\n").writerows(
        [line[index] for index in kept if index < len(line)] for line in lines
    )
    return out.getvalue().encode()


def _rows(value: Any, names: frozenset[str], columns: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return _records(value, names, columns)
    if not isinstance(value, dict):
        return None
    cleaned: dict[str, Any] = {}
    for key, content in value.items():
        if key == "params":
            cleaned[key] = content
            continue
        part = _content(key, content, names, columns)
        if part is None:
            return None
        cleaned[key] = part
    return cleaned


def _content(key: str, content: Any, names: frozenset[str], columns: tuple[str, ...]) -> Any:
    if key == "dataframe_split":
        return _split(content, names)
    if key in ("dataframe_records", "instances", "inputs"):
        if isinstance(content, dict):
            return {name: values for name, values in content.items() if name not in names}
        return _records(content, names, columns)
    return None


def _split(content: Any, names: frozenset[str]) -> Any:
    if not isinstance(content, dict):
        return None
    columns, data = content.get("columns"), content.get("data")
    if not isinstance(columns, list) or not isinstance(data, list):
        return None
    kept = [index for index, name in enumerate(columns) if str(name) not in names]
    if not all(isinstance(row, list) and len(row) == len(columns) for row in data):
        return None
    return {"columns": [columns[index] for index in kept], "data": [[row[index] for index in kept] for row in data]}


def _records(content: Any, names: frozenset[str], columns: tuple[str, ...]) -> Any:
    if not isinstance(content, list):
        return None
    if columns and all(isinstance(row, list) and len(row) == len(columns) for row in content):
        content = [dict(zip(columns, row, strict=True)) for row in content]
    if not all(isinstance(row, dict) for row in content):
        return None
    return [{name: item for name, item in row.items() if name not in names} for row in content]


def _tensors(value: Any, names: frozenset[str]) -> Any:
    inputs = value.get("inputs") if isinstance(value, dict) else None
    if not isinstance(inputs, list) or not all(isinstance(tensor, dict) for tensor in inputs):
        return None
    kept = [tensor for tensor in inputs if str(tensor.get("name")) not in names]
    return None if len(kept) == len(inputs) else {"inputs": kept}
