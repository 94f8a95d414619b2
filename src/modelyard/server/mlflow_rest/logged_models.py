"""MLflow 3's logged models."""

from typing import Any

from sqlalchemy import Connection, select

from modelyard.build.tracking import logged_models
from modelyard.build.tracking.logged_models import LoggedModel
from modelyard.domain.errors import Invalid
from modelyard.domain.permissions import Permission
from modelyard.server.mlflow_rest import wire
from modelyard.server.mlflow_rest.table import pair
from modelyard.server.routes import Call, Route
from modelyard.store.tables.tracking import metric_points, runs

STATUSES = {"1": logged_models.PENDING, "2": logged_models.READY, "3": logged_models.FAILED}


def _shown(conn: Connection, model: LoggedModel) -> wire.Json:
    query = select(metric_points, runs.c.id.label("run_id")).join(runs, runs.c.num == metric_points.c.run)
    metrics = [
        {
            "key": p.key,
            "value": p.value,
            "timestamp": p.time,
            "step": p.step,
            "model_id": model.id,
            "run_id": p.run_id,
        }
        for p in conn.execute(query.where(metric_points.c.model_id == model.id, metric_points.c.special.is_(None)))
    ]
    return wire.logged_model(model, metrics)


async def create(call: Call) -> Any:
    body, actor = call.body, call.principal.name
    number = wire.whole(body, "experiment_id")

    def work(conn: Connection) -> LoggedModel:
        return logged_models.create(
            conn,
            number,
            actor=actor,
            name=body.get("name"),
            run_id=body.get("source_run_id") or None,
            model_type=wire.text(body, "model_type", ""),
            params=wire.pairs(body, "params"),
            tags=wire.pairs(body, "tags"),
        )

    return {"model": wire.logged_model(await call.yard.store.write(work))}


async def get(call: Call) -> Any:
    model_id = call.path["model_id"]
    return {"model": await call.yard.store.read(lambda conn: _shown(conn, logged_models.get(conn, model_id)))}


async def finalize(call: Call) -> Any:
    status = wire.text(call.body, "status")
    status = STATUSES.get(status, status)
    if status not in STATUSES.values():
        raise Invalid(f"Invalid model status {status!r}.")
    return await _change(call, status=status)


async def delete(call: Call) -> Any:
    await _change(call, deleted=True)
    return {}


async def set_tags(call: Call) -> Any:
    return await _merge(call, "tags")


async def set_params(call: Call) -> Any:
    return await _merge(call, "params")


async def delete_tag(call: Call) -> Any:
    model_id, key = call.path["model_id"], call.path["key"]

    def work(conn: Connection) -> None:
        tags = dict(logged_models.get(conn, model_id).tags)
        tags.pop(key, None)
        logged_models.change(conn, model_id, tags=tags)

    await call.yard.store.write(work)
    return {}


async def search(call: Call) -> Any:
    body = call.body
    limit, offset = wire.page(body, 50, 1000)
    numbers = [wire.whole({"experiment_id": item}, "experiment_id") for item in wire.texts(body, "experiment_ids")]

    def work(conn: Connection) -> list[wire.Json]:
        return [_shown(conn, model) for model in logged_models.search(conn, numbers, limit, offset)]

    found = await call.yard.store.read(work)
    return wire.paged({"models": found}, len(found), limit, offset)


async def _change(call: Call, **values: Any) -> Any:
    model_id = call.path["model_id"]
    changed = await call.yard.store.write(lambda conn: logged_models.change(conn, model_id, **values))
    return {"model": wire.logged_model(changed)}


async def _merge(call: Call, column: str) -> Any:
    model_id, added = call.path["model_id"], wire.pairs(call.body, column)

    def work(conn: Connection) -> LoggedModel:
        held: dict[str, str] = getattr(logged_models.get(conn, model_id), column)
        return logged_models.change(conn, model_id, **{column: {**held, **added}})

    return {"model": wire.logged_model(await call.yard.store.write(work))}


R, W = Permission.RUNS_READ, Permission.RUNS_WRITE
ROUTES: list[Route] = [
    *pair("POST", "mlflow/logged-models", W, create),
    *pair("POST", "mlflow/logged-models/search", R, search),
    *pair("GET", "mlflow/logged-models/{model_id}", R, get),
    *pair("PATCH", "mlflow/logged-models/{model_id}", W, finalize),
    *pair("DELETE", "mlflow/logged-models/{model_id}", W, delete),
    *pair("POST", "mlflow/logged-models/{model_id}/params", W, set_params),
    *pair("PATCH", "mlflow/logged-models/{model_id}/tags", W, set_tags),
    *pair("DELETE", "mlflow/logged-models/{model_id}/tags/{key}", W, delete_tag),
]
