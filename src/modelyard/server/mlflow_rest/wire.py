"""MLflow's JSON for our nouns, both ways."""

import math
from typing import Any

from modelyard.build.tracking import artifacts
from modelyard.build.tracking.experiments import Experiment
from modelyard.build.tracking.logged_models import LoggedModel
from modelyard.build.tracking.runs import Metric, Run
from modelyard.domain.errors import Invalid
from modelyard.registry.models import Model
from modelyard.registry.versions import Version
from modelyard.server.routes import Call

Json = dict[str, Any]


def text(body: Json, key: str, default: str | None = None) -> str:
    """A text field. Raises Invalid when it is missing without a default, or not text."""
    value = body.get(key)
    if value is None:
        if default is None:
            raise Invalid(f"Missing value for required parameter '{key}'.")
        return default
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise Invalid(f"Invalid value {str(value)[:80]!r} for parameter '{key}': expected a string.")
    return value


def whole(body: Json, key: str, default: int | None = None) -> int:
    """A 64-bit integer, which protobuf's JSON writes as a number or as text."""
    value = body.get(key)
    if value is None or value == "":
        if default is None:
            raise Invalid(f"Missing value for required parameter '{key}'.")
        return default
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise Invalid(f"Invalid value {str(value)[:80]!r} for parameter '{key}': expected an integer.") from None
    if not -(2**63) <= number < 2**63:
        raise Invalid(f"Invalid value for parameter '{key}': beyond 64 bits.")
    return number


def number(body: Json, key: str) -> float:
    """A double; NaN and the infinities come as text."""
    value = body.get(key)
    try:
        return float(value)  # pyright: ignore[reportArgumentType] - None and lists raise TypeError
    except (TypeError, ValueError):
        raise Invalid(f"Invalid value {str(value)[:80]!r} for parameter '{key}': expected a number.") from None


def items(body: Json, key: str) -> list[Json]:
    """A list of objects; an absent one is empty."""
    value = body.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Invalid(f"Invalid value for parameter '{key}': expected a list of objects.")
    return value


def texts(body: Json, key: str) -> list[str]:
    value = body.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str | int) for item in value):
        raise Invalid(f"Invalid value for parameter '{key}': expected a list of strings.")
    return [str(item) for item in value]


def pairs(body: Json, key: str) -> dict[str, str]:
    """A list of {key, value} as a dictionary."""
    return {text(item, "key"): text(item, "value", "") for item in items(body, key)}


def fields(call: Call) -> Json:
    """The query of a GET as a body: repeated keys become lists when they name lists."""
    query = call.request.query_params
    found: Json = dict(query)
    for key in ("experiment_ids", "order_by", "run_ids", "stages"):
        if key in query:
            found[key] = query.getlist(key)
    return found


def page(body: Json, default: int, most: int) -> tuple[int, int]:
    """(limit, offset) of a search; the page token is the offset. Raises Invalid beyond `most`."""
    limit = whole(body, "max_results", default)
    if not 1 <= limit <= most:
        raise Invalid(f"Invalid value for parameter 'max_results': {limit}; it must be 1 to {most}.")
    token = text(body, "page_token", "")
    if token and not token.isdigit():
        raise Invalid("Invalid page token.")
    return limit, int(token or 0)


def paged(answer: Json, found: int, limit: int, offset: int) -> Json:
    """The answer with the next page's token when this page is full."""
    return {**answer, "next_page_token": str(offset + limit)} if found == limit else answer


def metric_in(body: Json) -> Metric:
    value = number(body, "value")
    dataset = body.get("dataset_digest")
    return Metric(
        text(body, "key"),
        value,
        whole(body, "timestamp"),
        whole(body, "step", 0),
        body.get("model_id"),
        f"{body.get('dataset_name') or ''}@{dataset}" if dataset else None,
    )


def metric(point: Metric, run_id: str | None = None) -> Json:
    value: Any = point.value
    if not math.isfinite(point.value):
        value = "NaN" if math.isnan(point.value) else ("Infinity" if point.value > 0 else "-Infinity")
    shown: Json = {"key": point.key, "value": value, "timestamp": point.time, "step": point.step}
    if point.model_id:
        shown["model_id"] = point.model_id
    if point.dataset:
        shown["dataset_name"], _, shown["dataset_digest"] = point.dataset.rpartition("@")
    if run_id:
        shown["run_id"] = run_id
    return shown


def tags(values: dict[str, str]) -> list[Json]:
    return [{"key": key, "value": value} for key, value in values.items()]


def experiment(found: Experiment) -> Json:
    return {
        "experiment_id": str(found.id),
        "name": found.name,
        "artifact_location": found.artifact_location,
        "lifecycle_stage": found.lifecycle,
        "creation_time": found.created_at,
        "last_update_time": found.updated_at,
        "tags": tags(found.tags),
    }


def run(found: Run, inputs: list[Json] | None = None, models: tuple[list[Json], list[Json]] = ([], [])) -> Json:
    info: Json = {
        "run_id": found.id,
        "run_uuid": found.id,
        "run_name": found.name,
        "experiment_id": str(found.experiment_id),
        "user_id": found.user_id,
        "status": found.status,
        "start_time": found.started_at,
        "artifact_uri": artifacts.SCHEME + artifacts.run_root(found.experiment_id, found.id),
        "lifecycle_stage": found.lifecycle,
    }
    if found.ended_at is not None:
        info["end_time"] = found.ended_at
    data = {
        "metrics": [metric(point) for point in found.metrics],
        "params": tags(found.params),
        "tags": tags(found.tags),
    }
    return {
        "info": info,
        "data": data,
        "inputs": {"dataset_inputs": inputs or [], "model_inputs": models[0]},
        "outputs": {"model_outputs": models[1]},
    }


def logged_model(found: LoggedModel, metrics: list[Json] | None = None) -> Json:
    info: Json = {
        "model_id": found.id,
        "experiment_id": str(found.experiment_id),
        "name": found.name,
        "creation_timestamp_ms": found.created_at,
        "last_updated_timestamp_ms": found.updated_at,
        "artifact_uri": found.location,
        "status": found.status,
        "model_type": found.model_type,
        "tags": tags(found.tags),
    }
    if found.run_id:
        info["source_run_id"] = found.run_id
    return {"info": info, "data": {"params": tags(found.params), "metrics": metrics or []}}


def version(found: Version) -> Json:
    shown: Json = {
        "name": found.model,
        "version": str(found.version),
        "creation_timestamp": found.created_at,
        "last_updated_timestamp": found.updated_at,
        "user_id": found.registrar,
        "current_stage": found.stage,
        "description": found.description,
        "source": found.source,
        "run_id": found.run_id or "",
        "status": "READY",
        "tags": tags(found.tags),
        "aliases": list(found.aliases),
    }
    if found.model_id:
        shown["model_id"] = found.model_id
    return shown


def model(found: Model, latest: list[Version], aliases: dict[str, int]) -> Json:
    return {
        "name": found.name,
        "creation_timestamp": found.created_at,
        "last_updated_timestamp": found.updated_at,
        "description": found.description,
        "latest_versions": [version(item) for item in latest],
        "tags": tags(found.tags),
        "aliases": [{"alias": alias, "version": str(number)} for alias, number in aliases.items()],
    }
