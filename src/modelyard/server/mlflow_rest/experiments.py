"""MLflow's experiment calls."""

from typing import Any

from sqlalchemy import Connection

from modelyard.build.tracking import artifacts, experiments, search
from modelyard.domain.permissions import Permission
from modelyard.server.mlflow_rest import wire
from modelyard.server.mlflow_rest.table import pair
from modelyard.server.routes import Call, Route

LIFECYCLES: dict[str, list[str]] = {
    "ACTIVE_ONLY": ["active"],
    "DELETED_ONLY": ["deleted"],
    "ALL": ["active", "deleted"],
    "1": ["active"],
    "2": ["deleted"],
    "3": ["active", "deleted"],
}


def lifecycles(body: wire.Json, key: str) -> list[str]:
    """The lifecycle stages of a view type, by its name or number. Raises Invalid."""
    view = str(body.get(key) or "ACTIVE_ONLY")
    if view not in LIFECYCLES:
        raise wire.wrong(key, body[key])
    return LIFECYCLES[view]


async def create(call: Call) -> Any:
    name, tags = wire.text(call.body, "name"), wire.pairs(call.body, "tags")
    asked, actor = wire.text(call.body, "artifact_location", ""), call.principal.name
    place = artifacts.checked_place(asked) if asked else ""
    made = await call.yard.store.write(
        lambda conn: experiments.create(conn, name, actor=actor, tags=tags, place=place)
    )
    return {"experiment_id": str(made.id)}


async def get(call: Call) -> Any:
    number = wire.experiment_id(wire.fields(call))
    found = await call.yard.store.read_brief(lambda conn: experiments.get(conn, number))
    return {"experiment": wire.experiment(found)}


async def get_by_name(call: Call) -> Any:
    name = wire.text(wire.fields(call), "experiment_name")
    found = await call.yard.store.read_brief(lambda conn: experiments.by_name(conn, name))
    return {"experiment": wire.experiment(found)}


async def find(call: Call) -> Any:
    body = call.body if call.request.method == "POST" else wire.fields(call)
    limit, at = wire.page(body, 1000, 50_000)
    shown, wanted, order = lifecycles(body, "view_type"), wire.text(body, "filter", ""), wire.texts(body, "order_by")

    def work(conn: Connection) -> list[wire.Json]:
        found = search.search_experiments(conn, wanted, shown, order, limit + 1, at.offset)
        return [wire.experiment(item) for item in found]

    return wire.paged("experiments", await call.yard.store.read(work), limit, at)


async def _change(call: Call, **values: Any) -> Any:
    number, actor = wire.experiment_id(call.body), call.principal.name
    await call.yard.store.write(lambda conn: experiments.change(conn, number, actor=actor, **values))
    return {}


async def update(call: Call) -> Any:
    return await _change(call, name=wire.text(call.body, "new_name"))


async def delete(call: Call) -> Any:
    return await _change(call, lifecycle=experiments.DELETED)


async def restore(call: Call) -> Any:
    return await _change(call, lifecycle=experiments.ACTIVE)


async def set_tag(call: Call) -> Any:
    number, key = wire.experiment_id(call.body), wire.text(call.body, "key")
    value = wire.text(call.body, "value", "")
    await call.yard.store.write(lambda conn: experiments.set_tag(conn, number, key, value))
    return {}


async def delete_tag(call: Call) -> Any:
    number, key = wire.experiment_id(call.body), wire.text(call.body, "key")
    await call.yard.store.write(lambda conn: experiments.delete_tag(conn, number, key))
    return {}


R, W = Permission.RUNS_READ, Permission.RUNS_WRITE
ROUTES: list[Route] = [
    *pair("POST", "mlflow/experiments/create", W, create),
    *pair("GET", "mlflow/experiments/get", R, get),
    *pair("GET", "mlflow/experiments/get-by-name", R, get_by_name),
    *pair("GET", "mlflow/experiments/search", R, find),
    *pair("POST", "mlflow/experiments/search", R, find),
    *pair("POST", "mlflow/experiments/update", W, update),
    *pair("POST", "mlflow/experiments/delete", W, delete),
    *pair("POST", "mlflow/experiments/restore", W, restore),
    *pair("POST", "mlflow/experiments/set-experiment-tag", W, set_tag),
    *pair("POST", "mlflow/experiments/delete-experiment-tag", W, delete_tag),
]
