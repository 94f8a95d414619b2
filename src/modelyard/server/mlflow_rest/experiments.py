"""MLflow's experiment calls."""

from typing import Any

from sqlalchemy import Connection

from modelyard.build.tracking import experiments
from modelyard.domain.errors import Invalid
from modelyard.domain.permissions import Permission
from modelyard.server.mlflow_rest import wire
from modelyard.server.mlflow_rest.table import pair
from modelyard.server.routes import Call, Route

LIFECYCLES = {
    "ACTIVE_ONLY": ["active"],
    "DELETED_ONLY": ["deleted"],
    "ALL": ["active", "deleted"],
    "1": ["active"],
    "2": ["deleted"],
    "3": ["active", "deleted"],
}


def lifecycles(body: wire.Json, key: str) -> list[str]:
    """The lifecycle stages of a view type. Raises Invalid."""
    view = wire.text(body, key, "ACTIVE_ONLY")
    if view not in LIFECYCLES:
        raise Invalid(f"Invalid view type {view!r}.", remedy="One of ACTIVE_ONLY, DELETED_ONLY, ALL.")
    return LIFECYCLES[view]


async def create(call: Call) -> Any:
    name, tags = wire.text(call.body, "name"), wire.pairs(call.body, "tags")
    location = wire.text(call.body, "artifact_location", "")
    if location and not location.startswith("mlflow-artifacts:/"):
        raise Invalid(
            f"Invalid artifact location {location[:100]!r}.", remedy="Leave it out: this server keeps the artifacts."
        )
    actor = call.principal.name
    made = await call.yard.store.write(lambda conn: experiments.create(conn, name, actor=actor, tags=tags))
    return {"experiment_id": str(made.id)}


async def get(call: Call) -> Any:
    number = wire.whole(wire.fields(call), "experiment_id")
    found = await call.yard.store.read(lambda conn: experiments.get(conn, number))
    return {"experiment": wire.experiment(found)}


async def get_by_name(call: Call) -> Any:
    name = wire.text(wire.fields(call), "experiment_name")
    found = await call.yard.store.read(lambda conn: experiments.by_name(conn, name))
    return {"experiment": wire.experiment(found)}


async def search(call: Call) -> Any:
    body = call.body if call.request.method == "POST" else wire.fields(call)
    limit, offset = wire.page(body, 1000, 50_000)
    shown, name = lifecycles(body, "view_type"), _name_filter(wire.text(body, "filter", ""))

    def work(conn: Connection) -> list[experiments.Experiment]:
        found = experiments.search(conn, shown, limit, offset)
        return [item for item in found if name is None or name(item.name)]

    found = await call.yard.store.read(work)
    return wire.paged({"experiments": [wire.experiment(item) for item in found]}, len(found), limit, offset)


def _name_filter(text: str) -> Any:
    """A test of an experiment's name, for the one filter that clients send by themselves."""
    from modelyard.build.tracking import search

    conditions = search.parse(text) if text.strip() else []
    if not conditions:
        return None
    if len(conditions) > 1 or conditions[0].key != "name" or conditions[0].operator not in ("=", "LIKE", "ILIKE"):
        raise Invalid("Experiments are filtered by name only.", remedy="Write name = 'x' or name LIKE '%x%'.")
    wanted = str(conditions[0].value)
    if conditions[0].operator == "=":
        return lambda name: name == wanted
    core = wanted.strip("%")
    return lambda name: core.lower() in name.lower() if conditions[0].operator == "ILIKE" else core in name


async def _change(call: Call, **values: Any) -> Any:
    number, actor = wire.whole(call.body, "experiment_id"), call.principal.name
    await call.yard.store.write(lambda conn: experiments.change(conn, number, actor=actor, **values))
    return {}


async def update(call: Call) -> Any:
    return await _change(call, name=wire.text(call.body, "new_name"))


async def delete(call: Call) -> Any:
    return await _change(call, lifecycle=experiments.DELETED)


async def restore(call: Call) -> Any:
    return await _change(call, lifecycle=experiments.ACTIVE)


async def set_tag(call: Call) -> Any:
    number, key = wire.whole(call.body, "experiment_id"), wire.text(call.body, "key")
    value = wire.text(call.body, "value", "")

    def work(conn: Connection) -> None:
        experiments.get(conn, number)
        experiments.set_tag(conn, number, key, value)

    await call.yard.store.write(work)
    return {}


async def delete_tag(call: Call) -> Any:
    number, key = wire.whole(call.body, "experiment_id"), wire.text(call.body, "key")
    await call.yard.store.write(lambda conn: experiments.delete_tag(conn, number, key))
    return {}


R, W = Permission.RUNS_READ, Permission.RUNS_WRITE
ROUTES: list[Route] = [
    *pair("POST", "mlflow/experiments/create", W, create),
    *pair("GET", "mlflow/experiments/get", R, get),
    *pair("GET", "mlflow/experiments/get-by-name", R, get_by_name),
    *pair("GET", "mlflow/experiments/search", R, search),
    *pair("POST", "mlflow/experiments/search", R, search),
    *pair("POST", "mlflow/experiments/update", W, update),
    *pair("POST", "mlflow/experiments/delete", W, delete),
    *pair("POST", "mlflow/experiments/restore", W, restore),
    *pair("POST", "mlflow/experiments/set-experiment-tag", W, set_tag),
    *pair("POST", "mlflow/experiments/delete-experiment-tag", W, delete_tag),
]
