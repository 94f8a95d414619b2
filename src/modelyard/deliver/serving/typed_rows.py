"""Typed JSON from the signature: a bare object for one row, a bare list for several; described by OpenAPI."""

from typing import Any

from modelyard.deliver.serving.bodies import decode_json
from modelyard.deliver.serving.errors import BadInput
from modelyard.deliver.serving.mlflow_scoring import answer_mlflow, media_type, parse_content
from modelyard.deliver.serving.parsed import Answer, Parsed, encode, plain, rows_of
from modelyard.deliver.serving.signature import Signature

STATUS = 422
"""Of rows that do not fit."""
JSON_TYPES: dict[str, dict[str, Any]] = {
    "double": {"type": ["number", "null"], "format": "double"},
    "float": {"type": ["number", "null"], "format": "float"},
    "long": {"type": "integer", "format": "int64"},
    "integer": {"type": "integer", "format": "int32"},
    "boolean": {"type": "boolean"},
    "string": {"type": ["string", "null"]},
    "datetime": {"type": ["string", "null"], "format": "date-time"},
    "binary": {"type": ["string", "null"], "contentEncoding": "base64"},
}
EXAMPLES: dict[str, Any] = {
    "double": 0.5,
    "float": 0.5,
    "long": 1,
    "integer": 1,
    "boolean": True,
    "string": "text",
    "datetime": "2026-01-31T12:00:00Z",
    "binary": "Ynl0ZXM=",
}


def parse_typed(body: bytes, content_type: str, signature: Signature) -> Parsed:
    """Rows as they are: {"a": 1} or [{"a": 1}, ...]; lists for a model that takes arrays. Raises BadInput (422)."""
    if media_type(content_type) != "application/json":
        raise BadInput("Typed rows are JSON: send application/json.", 415)
    value = decode_json(body)
    alone = isinstance(value, dict) or (signature.item is not None and not isinstance(value, list))
    if not alone and not isinstance(value, list):
        raise BadInput("Send an object for one row, or a list of rows.", STATUS)
    try:
        parsed = parse_content("instances", [value] if alone else value, signature)
    except BadInput as error:
        error.status = STATUS
        raise
    parsed.answer = _one if alone else answer_mlflow
    return parsed


def _one(predictions: Any) -> Answer:
    rows = plain(predictions)
    if rows_of(rows) == 1:
        rows = {name: values[0] for name, values in rows.items()} if isinstance(rows, dict) else rows[0]
    return Answer(encode({"prediction": rows}))


def row_schema(signature: Signature) -> dict[str, Any]:
    """The JSON schema of one row."""
    tensor = signature.one_tensor
    if tensor is not None:
        schema: dict[str, Any] = {"type": "number"}
        for size in reversed(tensor.shape[1:]):
            bounds = {"minItems": size, "maxItems": size} if size >= 0 else {}
            schema = {"type": "array", "items": schema, **bounds}
        return schema
    if signature.item is not None:
        return _schema({"type": signature.item.type, **signature.item.nested})
    if not signature.columns:
        return {}
    return {
        "type": "object",
        "required": [column.name for column in signature.columns if column.required],
        "properties": {column.name: _schema({"type": column.type, **column.nested}) for column in signature.columns},
    }


def example_row(signature: Signature) -> Any:
    """A row that the signature takes."""
    if signature.one_tensor is not None:
        value: Any = 0.5 if "float" in signature.one_tensor.dtype else 0
        for size in reversed(signature.one_tensor.shape[1:]):
            value = [value] * max(size, 1)
        return value
    if signature.item is not None:
        return _example({"type": signature.item.type, **signature.item.nested})
    return {column.name: _example({"type": column.type, **column.nested}) for column in signature.columns}


def _schema(described: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of a type that MLflow describes."""
    kind = described["type"]
    if kind == "array":
        return {"type": "array", "items": _schema(described["items"])}
    if kind == "map":
        return {"type": "object", "additionalProperties": _schema(described["values"])}
    if kind == "object":
        held = described["properties"]
        required = [name for name, item in held.items() if item.get("required", True)]
        return {
            "type": "object",
            "required": required,
            "properties": {name: _schema(item) for name, item in held.items()},
        }
    return JSON_TYPES.get(kind, {})


def _example(described: dict[str, Any]) -> Any:
    kind = described["type"]
    if kind == "array":
        return [_example(described["items"])]
    if kind == "map":
        return {"key": _example(described["values"])}
    if kind == "object":
        return {name: _example(item) for name, item in described["properties"].items()}
    return EXAMPLES.get(kind)
