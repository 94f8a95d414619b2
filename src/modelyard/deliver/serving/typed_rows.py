"""Typed JSON from the signature: a bare object for one row, a bare list for several; described by OpenAPI."""

from typing import Any

import msgspec

from modelyard.deliver.serving.errors import BadInput
from modelyard.deliver.serving.mlflow_scoring import answer_mlflow, media_type, parse_content
from modelyard.deliver.serving.parsed import Answer, Parsed, plain
from modelyard.deliver.serving.signature import Column, Signature

JSON_TYPES: dict[str, dict[str, Any]] = {
    "double": {"type": ["number", "null"], "format": "double"},
    "float": {"type": ["number", "null"], "format": "float"},
    "long": {"type": "integer", "format": "int64"},
    "integer": {"type": "integer", "format": "int32"},
    "boolean": {"type": "boolean"},
    "string": {"type": ["string", "null"]},
    "datetime": {"type": ["string", "null"], "format": "date-time"},
}
EXAMPLES: dict[str, Any] = {
    "double": 0.5,
    "float": 0.5,
    "long": 1,
    "integer": 1,
    "boolean": True,
    "string": "text",
    "datetime": "2026-01-31T12:00:00Z",
}


def parse_typed(body: bytes, content_type: str, signature: Signature) -> Parsed:
    """Rows as they are: {"a": 1} or [{"a": 1}, ...]; lists for a model that takes arrays. Raises BadInput (422)."""
    if media_type(content_type) != "application/json":
        raise BadInput("Typed rows are JSON: send application/json.", 415)
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadInput(f"The body is not JSON: {error}.") from None
    alone = isinstance(value, dict)
    if not alone and not isinstance(value, list):
        raise BadInput("Send an object for one row, or a list of rows.", 422)
    try:
        parsed = parse_content("instances", [value] if alone else value, signature)
    except BadInput as error:
        error.status = 422
        raise
    parsed.answer = _one if alone else answer_mlflow
    return parsed


def _one(predictions: Any) -> Answer:
    return Answer(msgspec.json.encode({"prediction": plain(predictions)[0]}))


def row_schema(signature: Signature) -> dict[str, Any]:
    """The JSON schema of one row."""
    tensor = signature.one_tensor
    if tensor is not None:
        schema: dict[str, Any] = {"type": "number"}
        for size in reversed(tensor.shape[1:]):
            bounds = {"minItems": size, "maxItems": size} if size >= 0 else {}
            schema = {"type": "array", "items": schema, **bounds}
        return schema
    if not signature.columns:
        return {}
    return {
        "type": "object",
        "required": [column.name for column in signature.columns if column.required],
        "properties": {column.name: JSON_TYPES.get(column.type, {}) for column in signature.columns},
    }


def example_row(signature: Signature) -> Any:
    """A row that the signature takes."""
    if signature.one_tensor is not None:
        value: Any = 0.5 if "float" in signature.one_tensor.dtype else 0
        for size in reversed(signature.one_tensor.shape[1:]):
            value = [value] * max(size, 1)
        return value
    return {column.name: _example(column) for column in signature.columns}


def _example(column: Column) -> Any:
    return EXAMPLES.get(column.type)
