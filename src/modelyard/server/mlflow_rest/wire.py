"""MLflow's JSON for our nouns, both ways."""

import math
from typing import Annotated, Any

import msgspec
from sqlalchemy import Row

from modelyard.build.tracking import artifacts
from modelyard.build.tracking.experiments import Experiment
from modelyard.build.tracking.inputs import DATASET, MODEL_INPUT, MODEL_OUTPUT
from modelyard.build.tracking.logged_models import LoggedModel
from modelyard.build.tracking.metrics import Metric
from modelyard.build.tracking.runs import Run
from modelyard.domain.errors import Invalid
from modelyard.registry.models import Model
from modelyard.registry.versions import Version
from modelyard.server.routes import Call
from modelyard.store.filters import Position, page_token, read_token

Json = dict[str, Any]


SAFE = 2**62
DOCS = "See the API docs for more information about request parameters."


def missing(key: str) -> Invalid:
    return Invalid(f"Missing value for required parameter '{key}'.", remedy=DOCS)


def wrong(key: str, value: Any) -> Invalid:
    """The error for a value of another type than the parameter takes."""
    shown = msgspec.json.encode(value).decode()[:1000]
    kind = type(value).__name__
    return Invalid(
        f"Invalid value {shown} for parameter '{key}' supplied:  Hint: Value was of type '{kind}'.", remedy=DOCS
    )


def text(body: Json, key: str, default: str | None = None) -> str:
    """A text field. Raises Invalid when it is missing (or empty) without a default, or not text."""
    value = body.get(key)
    if value is None or (value == "" and default is None):
        if default is None:
            raise missing(key)
        return default
    if not isinstance(value, str):
        raise wrong(key, value)
    return value


def whole(body: Json, key: str, default: int | None = None) -> int:
    """A 64-bit integer, which protobuf's JSON writes as a number or as text."""
    value = body.get(key)
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    if value is None or value == "":
        if default is None:
            raise missing(key)
        return default
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong(key, value) from None
    if not -(2**63) <= number < 2**63 or isinstance(value, bool) or number != float(value):
        raise wrong(key, value)
    return number


def experiment_id(body: Json, key: str = "experiment_id") -> int:
    """An experiment's number, which the wire writes as text."""
    return experiment_number(text(body, key))


def experiment_number(value: str) -> int:
    try:
        number = int(value)
    except ValueError:
        number = -1
    if not 0 <= number < 2**63:
        raise Invalid(f"Invalid experiment ID '{value[:100]}'. Experiment ID must be a valid integer.")
    return number


def experiment_ids(body: Json) -> list[int]:
    return [experiment_number(item) for item in texts(body, "experiment_ids")]


def number(body: Json, key: str) -> float:
    """A double; NaN and the infinities come as text."""
    value = body.get(key)
    if type(value) is float:
        return value
    if value is None or value == "":
        raise missing(key)
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong(key, value) from None


def items(body: Json, key: str) -> list[Json]:
    """A list of objects; an absent one is empty."""
    value = body.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise wrong(key, value)
    return value


def texts(body: Json, key: str) -> list[str]:
    value = body.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise wrong(key, value)
    return value


def pairs(body: Json, key: str) -> dict[str, str]:
    """A list of {key, value} as a dictionary."""
    found: dict[str, str] = {}
    for index, item in enumerate(items(body, key)):
        name = item.get("key")
        if name is None or name == "":
            raise missing(f"{key}[{index}].key")
        found[text(item, "key")] = text(item, "value", "")
    return found


def fields(call: Call) -> Json:
    """The query of a GET as a body: repeated keys become lists when they name lists."""
    found: Json = dict(call.query)
    for key in LISTS & found.keys():
        found[key] = call.request.query_params.getlist(key)
    return found


LISTS = frozenset({"experiment_ids", "order_by", "run_ids", "stages"})


def page(body: Json, default: int, most: int) -> tuple[int, Position]:
    """The most that a page holds and where it starts. Raises Invalid beyond `most`."""
    limit = whole(body, "max_results", default)
    if limit < 1:
        raise Invalid(f"Invalid value {limit} for parameter 'max_results' supplied. It must be a positive integer.")
    if limit > most:
        raise Invalid(
            f"Invalid value {limit} for parameter 'max_results' supplied. "
            f"It must be at most {most}, but got value {limit}"
        )
    return limit, read_token(text(body, "page_token", ""))


def paged(noun: str, found: list[Any], limit: int, at: Position) -> Json:
    """The answer of a search that looked for one more than its page holds, to know whether another page follows."""
    if len(found) <= limit:
        return {noun: found}
    token = page_token(Position(at.offset + limit, at.until))
    return {noun: found[:limit], "next_page_token": token}


def metric_in(body: Json, path: str = "") -> Metric:
    """A point; `path` is where it stands in the request. Raises Invalid."""
    key, value, time, step = body.get("key"), body.get("value"), body.get("timestamp"), body.get("step", 0)
    if type(key) is str and key and type(value) is float and type(time) is int and type(step) is int:
        if 0 <= time < SAFE and -SAFE < step < SAFE:  # what clients send, checked in one go
            return Metric(key, value, time, step, *_about(body))
    for key in ("key", "value", "timestamp"):
        if body.get(key) in (None, ""):
            raise missing(f"{path}.{key}" if path else key)
    return Metric(
        text(body, "key"),
        number(body, "value"),
        whole(body, "timestamp"),
        whole(body, "step", 0),
        *_about(body),
    )


def _about(body: Json) -> tuple[str | None, str | None, str | None]:
    """(logged model, dataset's name, its digest) of a point. Raises Invalid for half a dataset."""
    model, dataset, digest = (body.get(key) or None for key in ("model_id", "dataset_name", "dataset_digest"))
    if (dataset is None) != (digest is None):
        raise Invalid("Both dataset_name and dataset_digest must be provided if one is provided")
    return model, dataset, digest


def double(value: float) -> float | str:
    """A double as protobuf's JSON writes it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def odd(value: float, is_nan: bool) -> float | str:
    """What stands for a stored value that is not finite."""
    return "NaN" if is_nan else double(value)


class Pair(msgspec.Struct, gc=False):
    """A tag or param on the wire; a page of runs has tens of thousands, so they are no dictionaries."""

    key: str
    value: str


class Point(msgspec.Struct, gc=False, omit_defaults=True):
    """A metric's point on the wire."""

    key: str
    value: float | str
    timestamp: int
    step: int
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None
    run_id: str | None = None


Name = Annotated[str, msgspec.Meta(min_length=1)]
Whole = Annotated[int, msgspec.Meta(gt=-SAFE, lt=SAFE)]


class PlainPair(msgspec.Struct, gc=False):
    """A tag or param as clients send it."""

    key: Name
    value: str = ""


class PlainMetric(Metric, frozen=True, gc=False, rename={"time": "timestamp"}):
    """A point as clients send it, about no model; decoding one costs a twentieth of reading a dictionary."""

    key: Name
    value: float
    time: Annotated[int, msgspec.Meta(ge=0, lt=SAFE)]
    step: Whole = 0
    model_id: None = None
    dataset_name: None = None
    dataset_digest: None = None
    run_id: None = None


class PlainBatch(msgspec.Struct):
    run_id: Name
    metrics: list[PlainMetric] = []
    params: list[PlainPair] = []
    tags: list[PlainPair] = []


BATCH = msgspec.json.Decoder(PlainBatch)


def metric(point: Metric) -> Point:
    value = point.value
    return Point(
        point.key,
        value if value - value == 0 else double(value),  # finite: a page of runs has tens of thousands
        point.time,
        point.step,
        point.model_id,
        point.dataset_name,
        point.dataset_digest,
        point.run_id,
    )


def tags(values: dict[str, str]) -> list[Pair]:
    return [Pair(key, value) for key, value in values.items()]


def experiment(found: Experiment) -> Json:
    return {
        "experiment_id": str(found.id),
        "name": found.name,
        "artifact_location": found.artifact_location,
        "lifecycle_stage": found.lifecycle,
        "creation_time": found.created_at,
        "last_update_time": found.updated_at,
        "workspace": "default",
        "tags": tags(found.tags),
    }


def run_info(found: Run | Row[Any]) -> Json:
    info: Json = {
        "run_id": found.id,
        "run_uuid": found.id,
        "run_name": found.name,
        "experiment_id": str(found.experiment_id),
        "user_id": found.user_id,
        "status": found.status,
        "start_time": found.started_at,
        "artifact_uri": found.elsewhere or artifacts.SCHEME + artifacts.run_root(found.experiment_id, found.id),
        "lifecycle_stage": found.lifecycle,
    }
    if found.ended_at is not None:
        info["end_time"] = found.ended_at
    return info


def run(found: Run, used: dict[str, list[Json]] | None = None) -> Json:
    points = [metric(point) for point in found.metrics]
    return whole_run(run_info(found), points, tags(found.params), tags(found.tags), used)


def whole_run(
    info: Json, metrics: list[Point], params: Any, tags: Any, used: dict[str, list[Json]] | None = None
) -> Json:
    """A run of its parts; `used` is what it read and wrote, by kind (see `tracking.inputs`)."""
    data = {"metrics": metrics, "params": params, "tags": tags}
    shown: Json = {"info": info, "data": data, "inputs": {}, "outputs": {}}
    if used:
        shown["inputs"] = {"dataset_inputs": used.get(DATASET, []), "model_inputs": used.get(MODEL_INPUT, [])}
        shown["outputs"] = {"model_outputs": used.get(MODEL_OUTPUT, [])}
    return shown


def logged_model(found: LoggedModel, metrics: list[Point] | None = None) -> Json:
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
