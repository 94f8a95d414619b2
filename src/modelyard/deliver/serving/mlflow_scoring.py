"""MLflow's scoring protocol: request bodies of JSON and CSV into columns, predictions into answers."""

from collections.abc import Callable
from typing import Any

import numpy as np

from modelyard.deliver.serving import csv_rows, tabular
from modelyard.deliver.serving.bodies import decode_object
from modelyard.deliver.serving.columns import Column, check_table, found
from modelyard.deliver.serving.errors import BadCell, BadInput, Declined
from modelyard.deliver.serving.parsed import Answer, Parsed, encode, plain
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
        others = ", ".join(present) or ", ".join(list(value)[:5]) or "nothing"
        raise BadInput(f"The body must hold exactly one of {', '.join(KEYS)}; found {others}.")
    return parse_content(present[0], value[present[0]], signature, _params(value, signature))


def media_type(content_type: str) -> str:
    """The media type alone; JSON when none is named. Raises BadInput (415) for a parameter but charset=utf-8."""
    media, _, rest = content_type.partition(";")
    for parameter in filter(None, map(str.strip, rest.split(";"))):
        if parameter.lower() not in ("charset=utf-8", 'charset="utf-8"', "header=present"):
            raise BadInput(f"The content type parameter {parameter!r} is not supported; only charset=utf-8 is.", 415)
    return media.strip().lower() or "application/json"


def parse_content(key: str, content: Any, signature: Signature, params: dict[str, Any] | None = None) -> Parsed:
    """The rows under one of KEYS. Raises BadInput."""
    if signature.tensors:
        return _tensors(key, content, signature, params)
    if signature.item is not None and key in ("inputs", "instances") and isinstance(content, list):
        return of_items(content, signature.item, answer_mlflow, params)
    if key == "dataframe_split":
        columns, rows = _split(content)
    elif key == "inputs" and isinstance(content, dict):
        columns, rows = _columns(content)
    elif not isinstance(content, list):
        raise BadInput(f"{key} must be a list of rows; found {found(content)}.")
    elif key == "dataframe_records" or (content and isinstance(content[0], dict)):
        columns, rows = _records(content, signature)
    elif not signature.columns:
        matrix = _regular(content)
        return Parsed({}, len(matrix), answer_mlflow, matrix, params)
    else:
        columns, rows = table(content, signature.names, Declined, key)
    if rows == 0 and not columns:
        columns = {name: [] for name in signature.names}
    return _parsed(columns, rows, signature, params)


def of_items(
    content: list[Any], item: Column, answer: Callable[[Any], Answer], params: dict[str, Any] | None = None
) -> Parsed:
    """A list of a model whose rows are single values. Raises BadInput."""
    try:
        rows = item.values(content)
    except BadCell as error:
        raise Declined(f"Row {error.row}: {error.said}") from None
    return Parsed({}, len(rows), answer, rows, params)


def answer_mlflow(predictions: Any) -> Answer:
    return Answer(encode({"predictions": plain(predictions)}))


def table(data: Any, names: list[str], otherwise: type[BadInput] = BadInput, key: str = "data") -> Table:
    """Rows of values as columns. Raises BadInput; `otherwise` for a row of more or fewer values."""
    if not isinstance(data, list):
        raise BadInput(f"{key} must be a list of rows, each a list of values; found {found(data)}.")
    for number, row in enumerate(data):
        if not isinstance(row, list):
            raise BadInput(f"Row {number}: expected a list of values, found {found(row)}.")
    check_table(names, data, otherwise)
    if not data:
        return {name: [] for name in names}, 0
    return {name: list(values) for name, values in zip(names, zip(*data, strict=True), strict=True)}, len(data)


def _parsed(columns: dict[str, Any], rows: int, signature: Signature, params: dict[str, Any] | None) -> Parsed:
    if signature.one_tensor is not None:
        return _of_tensor(signature.one_tensor, list(zip(*columns.values(), strict=True)), params)
    if rows and not columns and not signature.columns:
        raise BadInput("Row 0 has no columns; expected at least one.")
    return Parsed(signature.take(columns, rows), rows, answer_mlflow, None, params)


def _params(value: dict[str, Any], signature: Signature) -> dict[str, Any] | None:
    params = value.get("params")
    if params is None:
        return None
    if not isinstance(params, dict):
        raise BadInput("params must be an object of names and values.")
    known = {param.name: param for param in signature.params}
    for name, given in params.items():
        if name not in known:
            raise Declined(f"The model has no parameter {name!r}. Its parameters: {', '.join(known) or 'none'}.")
        known[name].check(given)
    return {name: given for name, given in params.items() if given is not None}


def _split(content: Any) -> Table:
    if not isinstance(content, dict) or not isinstance(content.get("columns"), list):
        raise BadInput("dataframe_split needs columns and data.")
    return table(content.get("data"), [str(name) for name in content["columns"]])


def _records(content: list[Any], signature: Signature) -> Table:
    for row, record in enumerate(content):
        if not isinstance(record, dict):
            raise BadInput(f"Row {row}: expected an object of column names and values, found {found(record)}.")
    for column in signature.columns:
        if column.required:
            lacking = next((row for row, record in enumerate(content) if column.name not in record), None)
            if lacking is not None and any(column.name in record for record in content):
                raise Declined(f"Row {lacking} lacks the column {column.name!r}: expected a value or null.")
    given: dict[str, None] = {name: None for record in content for name in record}
    names = [name for name in signature.names if name in given] if signature.columns else list(given)
    if len(names) * len(content) > tabular.MOST_CELLS:
        raise BadInput(f"{len(content)} rows of {len(names)} different columns are too many.", 413)
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
        known = [tensor.name for tensor in signature.tensors if tensor.name in content[0]]
        named = {name: [row.get(name) for row in content] for name in known}
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
