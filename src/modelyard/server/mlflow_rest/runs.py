"""MLflow's run, metric and search calls."""

from typing import Any

from sqlalchemy import Connection

from modelyard.build.tracking import experiments, runs, search
from modelyard.build.tracking.runs import Metric, Run
from modelyard.domain.errors import Invalid
from modelyard.domain.permissions import Permission
from modelyard.kit.clock import now_ms
from modelyard.kit.hashing import digest_json
from modelyard.kit.ids import new_id
from modelyard.server.mlflow_rest import wire
from modelyard.server.mlflow_rest.experiments import lifecycles
from modelyard.server.mlflow_rest.table import pair
from modelyard.server.routes import Call, Route

DATASET, MODEL_INPUT, MODEL_OUTPUT = "dataset", "model-input", "model-output"
MOST_RESULTS = 50_000


def run_id_in(body: wire.Json) -> str:
    """The run's id, under its present or its former name."""
    return wire.text(body, "run_id", wire.text(body, "run_uuid", "")) or wire.text({}, "run_id")


def shown(conn: Connection, found: Run) -> wire.Json:
    """The run with its datasets and models."""
    models = (runs.inputs(conn, found.num, MODEL_INPUT), runs.inputs(conn, found.num, MODEL_OUTPUT))
    return wire.run(found, runs.inputs(conn, found.num, DATASET), models)


async def create(call: Call) -> Any:
    body, actor = call.body, call.principal.name
    tags = wire.pairs(body, "tags")
    name = wire.text(body, "run_name", "") or tags.get("mlflow.runName", "") or f"run-{new_id()[:8]}"
    tags["mlflow.runName"] = name
    number, user = wire.whole(body, "experiment_id", 0), wire.text(body, "user_id", "")
    started = wire.whole(body, "start_time", now_ms())

    def work(conn: Connection) -> Run:
        where = number or experiments.ensure(conn, experiments.DEFAULT, actor=actor).id
        made = runs.create(conn, where, actor=actor, name=name, user_id=user, started_at=started, tags=tags)
        return made

    return {"run": wire.run(await call.yard.store.write(work))}


async def get(call: Call) -> Any:
    run_id = run_id_in(wire.fields(call))
    return {"run": await call.yard.store.read(lambda conn: shown(conn, runs.get(conn, run_id)))}


async def update(call: Call) -> Any:
    body, actor, run_id = call.body, call.principal.name, run_id_in(call.body)
    ended = wire.whole(body, "end_time") if body.get("end_time") is not None else None
    name = body.get("run_name") or None

    def work(conn: Connection) -> Run:
        if name:
            runs.log_batch(conn, run_id, tags={"mlflow.runName": wire.text(body, "run_name")})
        return runs.change(conn, run_id, actor=actor, status=body.get("status"), ended_at=ended, name=name)

    return {"run_info": wire.run(await call.yard.store.write(work))["info"]}


async def _lifecycle(call: Call, lifecycle: str) -> Any:
    run_id, actor = run_id_in(call.body), call.principal.name
    await call.yard.store.write(lambda conn: runs.change(conn, run_id, actor=actor, lifecycle=lifecycle))
    return {}


async def delete(call: Call) -> Any:
    return await _lifecycle(call, experiments.DELETED)


async def restore(call: Call) -> Any:
    return await _lifecycle(call, experiments.ACTIVE)


async def _batch(call: Call, metrics: list[Metric], params: dict[str, str], tags: dict[str, str]) -> Any:
    run_id = run_id_in(call.body)
    await call.yard.store.write(lambda conn: runs.log_batch(conn, run_id, metrics, params, tags))
    return {}


async def log_metric(call: Call) -> Any:
    return await _batch(call, [wire.metric_in(call.body)], {}, {})


async def log_param(call: Call) -> Any:
    return await _batch(call, [], {wire.text(call.body, "key"): wire.text(call.body, "value", "")}, {})


async def set_tag(call: Call) -> Any:
    return await _batch(call, [], {}, {wire.text(call.body, "key"): wire.text(call.body, "value", "")})


async def log_batch(call: Call) -> Any:
    params = wire.items(call.body, "params")
    names = [wire.text(item, "key") for item in params]
    if len(set(names)) != len(names):
        raise Invalid("Duplicate parameter keys have been submitted.")
    metrics = [wire.metric_in(item) for item in wire.items(call.body, "metrics")]
    return await _batch(call, metrics, wire.pairs(call.body, "params"), wire.pairs(call.body, "tags"))


async def delete_tag(call: Call) -> Any:
    run_id, key = run_id_in(call.body), wire.text(call.body, "key")
    await call.yard.store.write(lambda conn: runs.delete_tag(conn, run_id, key))
    return {}


async def log_inputs(call: Call) -> Any:
    run_id = run_id_in(call.body)
    datasets = [_dataset(item) for item in wire.items(call.body, "datasets")]
    models = [_model(item) for item in wire.items(call.body, "models")]

    def work(conn: Connection) -> None:
        runs.add_inputs(conn, run_id, DATASET, datasets)
        runs.add_inputs(conn, run_id, MODEL_INPUT, models)

    await call.yard.store.write(work)
    return {}


async def log_outputs(call: Call) -> Any:
    run_id = run_id_in(call.body)
    models = [_model(item) for item in wire.items(call.body, "models")]
    await call.yard.store.write(lambda conn: runs.add_inputs(conn, run_id, MODEL_OUTPUT, models))
    return {}


async def log_model(call: Call) -> Any:
    """Clients before MLflow 3 note their models in a tag."""
    run_id, described = run_id_in(call.body), wire.text(call.body, "model_json")

    def work(conn: Connection) -> None:
        held = runs.get(conn, run_id).tags.get("mlflow.log-model.history", "[]")
        history = held[:-1] + ("," if held != "[]" else "") + described + "]"
        runs.log_batch(conn, run_id, tags={"mlflow.log-model.history": history})

    await call.yard.store.write(work)
    return {}


def _dataset(item: wire.Json) -> tuple[str, str, wire.Json]:
    dataset = item.get("dataset")
    if not isinstance(dataset, dict):
        raise Invalid("A dataset input needs its dataset.")
    return wire.text(dataset, "name"), wire.text(dataset, "digest"), item


def _model(item: wire.Json) -> tuple[str, str, wire.Json]:
    return wire.text(item, "model_id"), digest_json(item)[:36], item


async def search_runs(call: Call) -> Any:
    body = call.body
    limit, offset = wire.page(body, 1000, MOST_RESULTS)
    numbers = [wire.whole({"experiment_id": item}, "experiment_id") for item in wire.texts(body, "experiment_ids")]
    view = tuple(lifecycles(body, "run_view_type"))
    wanted, order = wire.text(body, "filter", ""), wire.texts(body, "order_by")

    def work(conn: Connection) -> list[wire.Json]:
        found = search.search_runs(conn, numbers, wanted, view, order, limit, offset)
        return [shown(conn, run) for run in found]

    found = await call.yard.store.read(work)
    return wire.paged({"runs": found}, len(found), limit, offset)


async def history(call: Call) -> Any:
    body = wire.fields(call)
    run_id, key = run_id_in(body), wire.text(body, "metric_key")
    limit, offset = wire.page(body, 25_000, 25_000) if "max_results" in body else (None, 0)
    points = await call.yard.store.read(lambda conn: runs.history(conn, run_id, key, limit, offset))
    answer = {"metrics": [wire.metric(point) for point in points]}
    return answer if limit is None else wire.paged(answer, len(points), limit, offset)


R, W = Permission.RUNS_READ, Permission.RUNS_WRITE
ROUTES: list[Route] = [
    *pair("POST", "mlflow/runs/create", W, create),
    *pair("GET", "mlflow/runs/get", R, get),
    *pair("POST", "mlflow/runs/update", W, update),
    *pair("POST", "mlflow/runs/delete", W, delete),
    *pair("POST", "mlflow/runs/restore", W, restore),
    *pair("POST", "mlflow/runs/log-metric", W, log_metric),
    *pair("POST", "mlflow/runs/log-parameter", W, log_param),
    *pair("POST", "mlflow/runs/set-tag", W, set_tag),
    *pair("POST", "mlflow/runs/delete-tag", W, delete_tag),
    *pair("POST", "mlflow/runs/log-batch", W, log_batch),
    *pair("POST", "mlflow/runs/log-inputs", W, log_inputs),
    *pair("POST", "mlflow/runs/outputs", W, log_outputs),
    *pair("POST", "mlflow/runs/log-model", W, log_model),
    *pair("POST", "mlflow/runs/search", R, search_runs),
    *pair("GET", "mlflow/metrics/get-history", R, history),
]
