"""The OpenAPI document of an endpoint, its rows from the model's signature."""

from typing import Any

from modelyard.deliver.serving import open_inference, typed_rows
from modelyard.deliver.serving.signature import Signature

JSON = "application/json"
KEYS = ("dataframe_split", "dataframe_records", "instances", "inputs")
LATER = {
    "name": "Prefer",
    "in": "header",
    "description": "`respond-async`: answered 202 at once; `location` is where the answer will be.",
    "schema": {"type": "string", "enum": ["respond-async"]},
}
ACCEPTED = {
    "description": "Taken into the queue of asynchronous requests",
    "headers": {"location": {"description": "The request's state", "schema": {"type": "string"}}},
    "content": {JSON: {"schema": {"type": "object", "required": ["id", "state", "result"]}}},
}
ANY = {"description": "What the model's `predict` answered: a list of one for each row, or anything else"}
REFUSED = {
    "400": "The body does not fit; the message names the column, row and value",
    "401": "No token, or one that is not known",
    "403": "A token that may not invoke here",
    "413": "The body is too large",
    "415": "A content type or encoding that is not known",
    "422": "A row does not fit; the message names the column, row and value",
    "429": "The limit of concurrent requests; try again after Retry-After",
    "500": "The model raised an error; its id is in the worker's log",
    "503": "No worker answers at present; try again after Retry-After",
    "504": "No answer in time",
}


def document(model: str, version: str, signature: Signature, example: Any, *, by_row: bool = True) -> dict[str, Any]:
    """The document; `example` is a row that the model takes. by_row: whether it is known to answer each row."""
    row = {"$ref": "#/components/schemas/Row"}
    rows = {"type": "array", "items": row}
    predictions = {"type": "array", "items": _prediction(signature)} if by_row else ANY
    one_or_all = {"anyOf": [_object("prediction", _prediction(signature)), _object("predictions", predictions)]}
    scoring = {"oneOf": [_object(key, {}) | {"additionalProperties": True} for key in KEYS]}
    tensors: dict[str, Any] = {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}}
    key = "instances" if signature.tensors else "dataframe_records"
    return {
        "openapi": "3.1.0",
        "info": {"title": model, "version": version},
        "servers": [{"url": "."}],
        "security": [{"bearer": []}],
        "paths": {
            "/predict": _posted("Typed rows", {"oneOf": [row, rows]}, [example], one_or_all, "Error"),
            "/invocations": _posted(
                "MLflow scoring, SageMaker", scoring, {key: [example]}, _object("predictions", predictions), "Error"
            ),
            f"/v2/models/{model}/infer": _posted(
                "Open Inference Protocol v2",
                _object("inputs", tensors),
                {"inputs": open_inference.example_tensors(signature, example)},
                _object("outputs", tensors),
                "OpenInferenceError",
            ),
        },
        "components": {
            "schemas": {
                "Row": typed_rows.row_schema(signature),
                "Tensor": {
                    "type": "object",
                    "required": ["name", "shape", "datatype"],
                    "properties": {
                        "name": {"type": "string"},
                        "shape": {"type": "array", "items": {"type": "integer"}},
                        "datatype": {"type": "string"},
                        "data": {"type": "array"},
                    },
                },
                "Error": _object("message", {"type": "string"}, error_code={"type": "string"}),
                "OpenInferenceError": _object("error", {"type": "string"}),
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _prediction(signature: Signature) -> dict[str, Any]:
    named = ", ".join(signature.classes)
    return {"description": f"Where the model answers probabilities: of {named}"} if named else {}


def _object(required: str, schema: dict[str, Any], **more: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [required], "properties": {required: schema, **more}}


def _posted(
    summary: str, taken: dict[str, Any], example: Any, answered: dict[str, Any], error: str
) -> dict[str, Any]:
    failure = {JSON: {"schema": {"$ref": f"#/components/schemas/{error}"}}}
    return {
        "post": {
            "summary": summary,
            "parameters": [LATER],
            "requestBody": {"required": True, "content": {JSON: {"schema": taken, "example": example}}},
            "responses": {
                "200": {"description": "Predictions", "content": {JSON: {"schema": answered}}},
                "202": ACCEPTED,
                **{status: {"description": said, "content": failure} for status, said in REFUSED.items()},
            },
        }
    }
