"""MLflow's run and search calls."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row

from modelyard.build.tracking import experiments, inputs, limits, runs, search
from modelyard.build.tracking.inputs import DATASET, MODEL_INPUT, MODEL_OUTPUT, Input
from modelyard.build.tracking.metrics import Metric
from modelyard.build.tracking.runs import NAME_TAG, Run
from modelyard.domain.errors import Invalid
from modelyard.domain.permissions import Permission
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import random_name
from modelyard.server.decoding import BAD_JSON, decoded
from modelyard.server.mlflow_rest import wire
from modelyard.server.mlflow_rest.experiments import lifecycles
from modelyard.server.mlflow_rest.table import brief_pair, pair
from modelyard.server.routes import BriefCall, Call, Route
from modelyard.store.writer import Work

MOST_RESULTS = 50_000
MOST_BATCH_BYTES = 1_000_000
MOST_SUMMARIES = 20
STATUSES = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}
CONTEXT_TAG = "mlflow.data.context"
HISTORY_TAG = "mlflow.log-model.history"


def run_id_in(body: wire.Json) -> str:
    """The run's id, under its present or its former name."""
    return wire.text(body, "run_id" if body.get("run_id") or not body.get("run_uuid") else "run_uuid")


def shown(conn: Connection, found: Run) -> wire.Json:
    """A run with its datasets and models."""
    return wire.run(found, inputs.of_runs(conn, [found.num]).get(found.num))


def page(conn: Connection, rows: Sequence[Row[Any]]) -> list[wire.Json]:
    """Runs of bare rows, with all they hold: made for thousands of params and metrics, which become no objects."""
    numbers = [row.num for row in rows]
    params, tags = (
        {run: msgspec.Raw(text) for run, text in runs.pairs(conn, table, numbers).items()}
        for table in ("run_params", "run_tags")
    )
    metrics = runs.newest(conn, numbers, wire.Point, wire.odd)
    used = inputs.of_runs(conn, numbers)
    return [
        wire.whole_run(wire.run_info(row), metrics.get(n, []), params.get(n, []), tags.get(n, []), used.get(n))
        for n, row in zip(numbers, rows, strict=True)
    ]


def create(call: BriefCall) -> Work:
    body, actor = call.body, call.principal.name
    tags, wanted = wire.pairs(body, "tags"), wire.text(body, "run_name", "")
    tagged = tags.get(NAME_TAG, "")
    if wanted and tagged and wanted != tagged:
        raise Invalid(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{wanted}', mlflow.runName='{tagged}')."
        )
    name = wanted or tagged or random_name()
    tags.setdefault(NAME_TAG, name)
    number = wire.experiment_id(body) if body.get("experiment_id") else experiments.DEFAULT_ID
    user, started = wire.text(body, "user_id", ""), wire.whole(body, "start_time", now_ms())

    def work(conn: Connection) -> wire.Json:
        made = runs.create(
            conn, number, actor=actor, name=name, user_id=user, started_at=started, tags=tags, where_told=True
        )
        return {"run": wire.run(made)}

    return work


def get(call: BriefCall) -> Work:
    run_id = run_id_in(call.query)
    return lambda conn: {"run": shown(conn, runs.get(conn, run_id))}


def update(call: BriefCall) -> Work:
    body, actor, run_id = call.body, call.principal.name, run_id_in(call.body)
    ended = wire.whole(body, "end_time") if body.get("end_time") is not None else None
    status = body.get("status")
    status = STATUSES.get(str(status), status)
    if status is not None and status not in runs.STATUSES:
        raise wire.wrong("status", status)
    name = wire.text(body, "run_name", "") or None

    def work(conn: Connection) -> wire.Json:
        changed = runs.change(conn, run_id, actor=actor, status=status, ended_at=ended, name=name)
        return {"run_info": wire.run_info(changed)}

    return work


def _lifecycle(call: BriefCall, lifecycle: str) -> Work:
    run_id, actor = run_id_in(call.body), call.principal.name
    return _silent(lambda conn: runs.change(conn, run_id, actor=actor, lifecycle=lifecycle))


def delete(call: BriefCall) -> Work:
    return _lifecycle(call, experiments.DELETED)


def restore(call: BriefCall) -> Work:
    return _lifecycle(call, experiments.ACTIVE)


def _silent(act: Callable[[Connection], object]) -> Work:
    """The work of a call whose answer says nothing."""

    def work(conn: Connection) -> wire.Json:
        act(conn)
        return {}

    return work


def log_metric(call: BriefCall) -> Work:
    run_id, metric = run_id_in(call.body), wire.metric_in(call.body)
    return _silent(lambda conn: runs.log_metric(conn, run_id, metric))


def log_param(call: BriefCall) -> Work:
    run_id, key, value = run_id_in(call.body), wire.text(call.body, "key"), wire.text(call.body, "value", "")
    return _silent(lambda conn: runs.log_param(conn, run_id, key, value))


def set_tag(call: BriefCall) -> Work:
    run_id, key, value = run_id_in(call.body), wire.text(call.body, "key"), wire.text(call.body, "value", "")
    return _silent(lambda conn: runs.set_tag(conn, run_id, key, value))


def log_batch(call: BriefCall) -> Work:
    if call.size > MOST_BATCH_BYTES:
        raise Invalid(
            "Batched logging API requests must be at most "
            f"{MOST_BATCH_BYTES} bytes, got a request of size {call.size}."
        )
    run_id, metrics, params, tags = _batch(call.body)
    return _silent(lambda conn: runs.log_batch(conn, run_id, metrics, params, tags))


def _batch(body: bytes) -> tuple[str, Sequence[Metric], dict[str, str], dict[str, str]]:
    """(run, metrics, params, tags) of a batch: read as what clients send, or else with all its oddities."""
    try:
        plain = wire.BATCH.decode(body)
    except BAD_JSON:
        return _odd_batch(decoded(body, wire.Json))
    limits.check_batch(len(plain.metrics), len(plain.params), len(plain.tags))
    limits.check_unique_params(pair.key for pair in plain.params)
    params, tags = ({pair.key: pair.value for pair in pairs} for pairs in (plain.params, plain.tags))
    return plain.run_id, plain.metrics, params, tags


def _odd_batch(body: wire.Json) -> tuple[str, Sequence[Metric], dict[str, str], dict[str, str]]:
    limits.check_batch(*(len(wire.items(body, noun)) for noun in ("metrics", "params", "tags")))
    metrics = [metric_at(index, item) for index, item in enumerate(wire.items(body, "metrics"))]
    params, tags = wire.pairs(body, "params"), wire.pairs(body, "tags")
    limits.check_unique_params(item["key"] for item in wire.items(body, "params"))
    return run_id_in(body), metrics, params, tags


def metric_at(index: int, item: wire.Json) -> Metric:
    return wire.metric_in(item, f"metrics[{index}]")


def delete_tag(call: BriefCall) -> Work:
    run_id, key = run_id_in(call.body), wire.text(call.body, "key")
    return _silent(lambda conn: runs.delete_tag(conn, run_id, key))


def log_inputs(call: BriefCall) -> Work:
    run_id = run_id_in(call.body)
    datasets = [_dataset(item) for item in wire.items(call.body, "datasets")]
    models = [_model(item) for item in wire.items(call.body, "models")]

    def work(conn: Connection) -> None:
        inputs.add(conn, run_id, DATASET, datasets)
        inputs.add(conn, run_id, MODEL_INPUT, models)

    return _silent(work)


def log_outputs(call: BriefCall) -> Work:
    run_id = run_id_in(call.body)
    models = [_model({**item, "step": wire.whole(item, "step", 0)}) for item in wire.items(call.body, "models")]
    if not models:
        raise wire.missing("models")
    return _silent(lambda conn: inputs.add(conn, run_id, MODEL_OUTPUT, models))


async def log_model(call: Call) -> Any:
    """Clients before MLflow 3 note their models in a tag."""
    run_id, described = run_id_in(call.body), wire.text(call.body, "model_json")
    try:
        model = msgspec.json.decode(described, type=dict[str, Any])
    except msgspec.DecodeError:
        raise Invalid(f"Malformed model info. \n {described[:1000]} \n is not a valid JSON.") from None
    absent = {"artifact_path", "flavors", "utc_time_created", "run_id"} - model.keys()
    if absent:
        raise Invalid(f"Model json is missing mandatory fields: {absent}")

    def work(conn: Connection) -> None:
        held = msgspec.json.decode(runs.get(conn, run_id).tags.get(HISTORY_TAG, "[]"))
        runs.set_tag(conn, run_id, HISTORY_TAG, msgspec.json.encode([*held, model]).decode())

    await call.yard.store.write(work)
    return {}


def _dataset(item: wire.Json) -> Input:
    dataset = item.get("dataset")
    if not isinstance(dataset, dict):
        raise Invalid("Dataset input must have a dataset associated with it.")
    name, digest = wire.text(dataset, "name"), wire.text(dataset, "digest")
    tags = wire.pairs(item, "tags")
    limits.check_dataset(dataset, tags)
    return Input(name, digest, {"tags": item.get("tags") or [], "dataset": dataset}, tags.get(CONTEXT_TAG))


def _model(item: wire.Json) -> Input:
    return Input(wire.text(item, "model_id"), "", item)


async def search_runs(call: Call) -> Any:
    body = call.body
    limit, at = wire.page(body, 1000, MOST_RESULTS)
    numbers, view = wire.experiment_ids(body), lifecycles(body, "run_view_type")
    wanted, order = wire.text(body, "filter", ""), wire.texts(body, "order_by")

    def work(conn: Connection) -> list[wire.Json]:
        at.until = at.until or search.newest_run(conn)
        return page(conn, search.find_runs(conn, numbers, wanted, view, order, limit + 1, at.offset, at.until))

    return wire.paged("runs", await call.yard.store.read(work), limit, at)


async def search_datasets(call: Call) -> Any:
    named = call.body.get("experiment_ids") or []
    if not named:
        raise Invalid("SearchDatasets request must specify at least one experiment_id.")
    if len(named) > MOST_SUMMARIES:
        raise Invalid(
            f"SearchDatasets request cannot specify more than {MOST_SUMMARIES} experiment_ids. "
            f"Received {len(named)} experiment_ids."
        )
    numbers = wire.experiment_ids(call.body)
    found = await call.yard.store.read(lambda conn: inputs.datasets_of(conn, numbers))
    return {
        "dataset_summaries": [
            {
                "experiment_id": str(item.experiment_id),
                "name": item.name,
                "digest": item.digest,
                **({"context": item.context} if item.context else {}),
            }
            for item in found
        ]
    }


R, W = Permission.RUNS_READ, Permission.RUNS_WRITE
ROUTES: list[Route] = [
    *brief_pair("POST", "mlflow/runs/create", W, create),
    *brief_pair("GET", "mlflow/runs/get", R, get),
    *brief_pair("POST", "mlflow/runs/update", W, update),
    *brief_pair("POST", "mlflow/runs/delete", W, delete),
    *brief_pair("POST", "mlflow/runs/restore", W, restore),
    *brief_pair("POST", "mlflow/runs/log-metric", W, log_metric),
    *brief_pair("POST", "mlflow/runs/log-parameter", W, log_param),
    *brief_pair("POST", "mlflow/runs/set-tag", W, set_tag),
    *brief_pair("POST", "mlflow/runs/delete-tag", W, delete_tag),
    *brief_pair("POST", "mlflow/runs/log-batch", W, log_batch, body=bytes),
    *brief_pair("POST", "mlflow/runs/log-inputs", W, log_inputs),
    *brief_pair("POST", "mlflow/runs/outputs", W, log_outputs),
    *pair("POST", "mlflow/runs/log-model", W, log_model),
    *pair("POST", "mlflow/runs/search", R, search_runs),
    *pair("POST", "mlflow/experiments/search-datasets", R, search_datasets),
]
