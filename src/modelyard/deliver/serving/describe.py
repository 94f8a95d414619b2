"""What a worker tells of its model: health, metadata, statistics, OpenAPI, a page to try it on."""

from typing import Any

import msgspec

from modelyard.deliver.serving import describe_page, open_inference, openapi, paths, typed_rows
from modelyard.deliver.serving.errors import error_body
from modelyard.deliver.serving.parsed import Answer
from modelyard.deliver.serving.predictor import Predictor

EXTENSIONS = ["binary_tensor_data", "statistics"]
JSON, HTML = "application/json", "text/html; charset=utf-8"


def answer(predictor: Predictor, path: str) -> tuple[int, Answer]:
    """(status, answer) to a path that asks for no prediction."""
    model, version, signature = predictor.model, predictor.version, predictor.loaded.signature
    plain = {
        "ping": b"\n",
        "health": b"\n",
        "version": (predictor.loaded.mlflow_version or version).encode(),
        "v2": msgspec.json.encode({"name": "modelyard", "version": "2", "extensions": EXTENSIONS}),
        "v2/health/live": b'{"live":true}',
        "v2/health/ready": b'{"ready":true,"live":true}',
        "v1/models": msgspec.json.encode({"models": [model]}),
        f"v1/models/{model}": msgspec.json.encode({"name": model, "ready": True}),
    }
    if path in plain:
        return 200, Answer(plain[path])
    named = (f"v2/models/{model}", f"v2/models/{model}/versions/{version}")
    if path in named:
        return 200, Answer(open_inference.describe_v2(model, version, signature))
    if path.removesuffix("/ready") in named:
        return 200, Answer(msgspec.json.encode({"name": model, "ready": True}))
    if path == "v2/models/stats" or path.removesuffix("/stats") in named:
        return 200, Answer(msgspec.json.encode({"model_stats": [predictor.tally.shown(model, version)]}))
    if path == "v2/repository/index":
        return 200, Answer(msgspec.json.encode([repository_entry(model, version)]))
    if path.startswith("v2/repository/"):
        return 400, Answer(error_body(path, 400, paths.NO_LOADING))
    if path == "openapi.json":
        by_row = predictor.loaded.vectorised
        described = openapi.document(model, version, signature, _example(predictor), by_row=by_row)
        return 200, Answer(msgspec.json.encode(described))
    if path == "docs":
        return 200, Answer(_page(predictor), HTML)
    return 404, Answer(error_body(path, 404, f"There is nothing at {path[:200]!r}."))


def repository_entry(model: str, version: str) -> dict[str, str]:
    return {"name": model, "version": version, "state": "READY", "reason": ""}


def _page(predictor: Predictor) -> bytes:
    signature = predictor.loaded.signature
    example = msgspec.json.format(msgspec.json.encode([_example(predictor)]), indent=2).decode()
    columns = [(column.name, column.type, column.required) for column in signature.columns]
    return describe_page.render(predictor.model, predictor.version, columns, example, signature.classes)


def _example(predictor: Predictor) -> Any:
    """A row that the model takes: of those that it was logged with, or made up."""
    return _logged_row(predictor) or typed_rows.example_row(predictor.loaded.signature)


def _logged_row(predictor: Predictor) -> dict[str, Any] | None:
    """The first row of the example that the model was logged with, if it is of the signature's columns."""
    try:
        split = msgspec.json.decode(predictor.loaded.example)["dataframe_split"]
        row = dict(zip(split["columns"], split["data"][0], strict=True))
    except (msgspec.DecodeError, KeyError, IndexError, TypeError, ValueError):
        return None
    names = predictor.loaded.signature.names
    return row if names and list(row) == names else None
