"""MLflow's scoring protocol: request bodies of JSON and CSV into columns, predictions into answers."""

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from modelyard.deliver.serving import csv_rows, tabular
from modelyard.deliver.serving.errors import BadInput, Declined
from modelyard.deliver.serving.parsed import Answer, Parsed, decode_object, plain
from modelyard.deliver.serving.signature import Signature, Tensor

SUPPORTED = "Send application/json, text/csv, application/vnd.apache.parquet or application/vnd.apache.arrow.stream."
KEYS = ("dataframe_split", "dataframe_records", "instances", "inputs")
Table = tuple[dict[str, Any], int]


def parse_invocation(body: bytes, content_type: str, signature: Signature) -> Parsed:
    """A scoring request. Raises BadInput."""
    media = media_type(content_type)
    if media == "text/csv":
        columns, rows = csv_rows.parse(body, signature)
        return _parsed(columns, rows, signature, None)
    if media in tabular.PARQUET or media in tabular.ARROW:
        columns, rows = tabular.parse(body, media)
        return _parsed(columns, rows, signature, None)
    if media != "application/json":
        raise BadInput(f"The content type {media!r} is not supported. {SUPPORTED}", 415)
    value = decode_object(body)
    present = [key for key in KEYS if key in value]
    if len(present) != 1:
        found = ", ".join(present) or ", ".join(list(value)[:5]) or "nothing"
        raise BadInput(f"The body must hold exactly one of {', '.join(KEYS)}; found {found}.")
    return parse_content(present[0], value[present[0]], signature, _params(value, signature))


def media_type(content_type: str) -> str:
    """The media type alone; JSON when none is named. Raises BadInput (415) for a parameter but charset=utf-8."""
    media, _, rest = content_type.partition(";")
    if rest.strip() and rest.strip().lower() not in ("charset=utf-8", 'charset="utf-8"', "header=present"):
        raise BadInput(f"The content type parameter {rest.strip()!r} is not supported; only charset=utf-8 is.", 415)
    return media.strip().lower() or "application/json"


def parse_content(key: str, content: Any, signature: Signature, params: dict[str, Any] | None = None) -> Parsed:
    """The rows under one of KEYS. Raises BadInput."""
    if signature.tensors:
        return _tensors(key, content, signature, params)
    if key == "dataframe_split":
        columns, rows = _split(content)
    elif key == "inputs" and isinstance(content, dict):
        columns, rows = _columns(content)
    elif not isinstance(content, list):
        raise BadInput(f"{key} must be a list of rows.")
    elif key == "dataframe_records" or (content and isinstance(content[0], dict)):
        columns, rows = _records(content, signature)
    elif not signature.columns:
        matrix = _regular(content)
        return Parsed({}, len(matrix), answer_mlflow, matrix, params)
    else:
        columns, rows = table(content, signature.names, Declined)
    if rows == 0 and not columns:
        columns = {name: [] for name in signature.names}
    return _parsed(columns, rows, signature, params)


def answer_mlflow(predictions: Any) -> Answer:
    return Answer(msgspec.json.encode({"predictions": plain(predictions)}))


def table(data: Any, names: list[str], otherwise: type[BadInput] = BadInput) -> Table:
    """Rows of values as columns. Raises BadInput; `otherwise` for a row of more or fewer values."""
    if not isinstance(data, list) or not all(isinstance(row, list) for row in data):
        raise BadInput("data must be a list of rows, each a list of values.")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput(f"Column {twice!r} is given twice.")
    for number, row in enumerate(data):
        if len(row) != len(names):
            listed = ", ".join(names)
            raise otherwise(f"Row {number} has {len(row)} values; there are {len(names)} columns: {listed}.")
    if not data:
        return {name: [] for name in names}, 0
    return {name: list(values) for name, values in zip(names, zip(*data, strict=True), strict=True)}, len(data)


def _parsed(columns: dict[str, Any], rows: int, signature: Signature, params: dict[str, Any] | None) -> Parsed:
    if signature.one_tensor is not None:
        return _of_tensor(signature.one_tensor, list(zip(*columns.values(), strict=True)), params)
    return Parsed(signature.take(columns, rows), rows, answer_mlflow, None, params)


def _params(value: dict[str, Any], signature: Signature) -> dict[str, Any] | None:
    params = value.get("params")
    if params is None:
        return None
    if not isinstance(params, dict):
        raise BadInput("params must be an object of names and values.")
    strange = [name for name in params if name not in signature.params]
    if strange:
        known = ", ".join(signature.params) or "none"
        raise Declined(f"The model has no parameter {strange[0]!r}. Its parameters: {known}.")
    return params


def _split(content: Any) -> Table:
    if not isinstance(content, dict) or not isinstance(content.get("columns"), list):
        raise BadInput("dataframe_split needs columns and data.")
    return table(content.get("data"), [str(name) for name in content["columns"]])


def _records(content: list[Any], signature: Signature) -> Table:
    if not all(isinstance(record, dict) for record in content):
        raise BadInput("Every record must be an object of column names and values.")
    for column in signature.columns:
        if column.required:
            lacking = next((row for row, record in enumerate(content) if column.name not in record), None)
            if lacking is not None and any(column.name in record for record in content):
                raise Declined(f"Row {lacking} lacks the column {column.name!r}: expected a value or null.")
    names: Iterable[str] = {name: None for record in content for name in record}
    return {name: [record.get(name) for record in content] for name in names}, len(content)


def _columns(content: dict[str, Any]) -> Table:
    columns = {name: value if isinstance(value, list) else [value] for name, value in content.items()}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise BadInput(f"The columns have different lengths: {sorted(lengths)}.")
    return columns, lengths.pop() if lengths else 0


def _regular(content: list[Any]) -> Any:
    try:
        return np.array(content)
    except ValueError:
        raise BadInput("The rows have different lengths.") from None


def _tensors(key: str, content: Any, signature: Signature, params: dict[str, Any] | None) -> Parsed:
    """Arrays for a model that takes tensors: one unnamed, or each by its name."""
    one = signature.one_tensor
    if key == "dataframe_split":
        columns, rows = _split(content)
        content = [list(row) for row in zip(*columns.values(), strict=True)] if rows else []
    if isinstance(content, dict):
        named = content
    elif isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        named = {name: [row.get(name) for row in content] for name in content[0]}
    elif one is not None:
        return _of_tensor(one, content, params)
    else:
        named = {}
    missing = [tensor.name for tensor in signature.tensors if tensor.name not in named]
    if missing:
        raise Declined(f"Missing tensor(s): {', '.join(missing) or 'the input, as a list of rows'}.")
    arrays = {tensor.name: tensor.array(named[tensor.name]) for tensor in signature.tensors}
    lengths = {len(array) for array in arrays.values() if array.ndim}
    if len(lengths) != 1:
        raise BadInput(f"The tensors have different numbers of rows: {sorted(lengths)}.")
    if one is not None:
        return Parsed({}, lengths.pop(), answer_mlflow, arrays[one.name], params)
    return Parsed(arrays, lengths.pop(), answer_mlflow, None, params)


def _of_tensor(tensor: Tensor, content: Any, params: dict[str, Any] | None) -> Parsed:
    array = tensor.array(content)
    return Parsed({}, len(array) if array.ndim else 1, answer_mlflow, array, params)
