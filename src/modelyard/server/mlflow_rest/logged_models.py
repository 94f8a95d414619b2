"""MLflow 3's logged models."""

from typing import Any

from sqlalchemy import Connection

from modelyard.build.tracking import limits, logged_models, metrics, search_models
from modelyard.build.tracking.logged_models import LoggedModel
from modelyard.build.tracking.search_models import ModelOrder, OnDataset
from modelyard.domain.errors import Invalid, NotFound
from modelyard.domain.permissions import Permission
from modelyard.server.mlflow_rest import wire
from modelyard.server.mlflow_rest.table import pair
from modelyard.server.routes import Call, Route

STATUSES = {"1": logged_models.PENDING, "2": logged_models.READY, "3": logged_models.FAILED}
MOST_RESULTS = 50_000
BAD_SIGNS = ("/", ":", ".", "%", '"', "'")


def _shown(conn: Connection, models: list[LoggedModel]) -> list[wire.Json]:
    measured = metrics.of_models(conn, [model.id for model in models])
    return [wire.logged_model(model, [wire.metric(point) for point in measured[model.id]]) for model in models]


async def create(call: Call) -> Any:
    body, actor = call.body, call.principal.name
    number, name = wire.experiment_id(body), wire.text(body, "name", "") or None
    if name is not None and any(sign in name for sign in BAD_SIGNS):
        raise Invalid(
            f"Invalid model name ({name!r}) provided. Model name must be a non-empty string and cannot contain the "
            f"following characters: {BAD_SIGNS}"
        )

    def work(conn: Connection) -> LoggedModel:
        return logged_models.create(
            conn,
            number,
            actor=actor,
            name=name,
            run_id=wire.text(body, "source_run_id", "") or None,
            model_type=wire.text(body, "model_type", ""),
            params=_params(body),
            tags=wire.pairs(body, "tags"),
            where_told=True,
        )

    return {"model": wire.logged_model(await call.yard.store.write_brief(work))}


async def get(call: Call) -> Any:
    model_id = call.path["model_id"]
    deleted = call.query.get("allow_deleted", "false").lower() == "true"
    found = await call.yard.store.read_brief(
        lambda conn: _shown(conn, [logged_models.get(conn, model_id, allow_deleted=deleted)])
    )
    return {"model": found[0]}


async def finalize(call: Call) -> Any:
    given = call.body.get("status")
    status = STATUSES.get(str(given), given)
    if status not in STATUSES.values():
        raise wire.missing("status") if given is None else wire.wrong("status", given)
    model_id = call.path["model_id"]

    def work(conn: Connection) -> list[wire.Json]:
        return _shown(conn, [logged_models.change(conn, model_id, allow_deleted=True, status=status)])

    return {"model": (await call.yard.store.write_brief(work))[0]}


async def delete(call: Call) -> Any:
    model_id = call.path["model_id"]
    await call.yard.store.write_brief(lambda conn: logged_models.delete(conn, model_id))
    return {}


async def set_tags(call: Call) -> Any:
    model_id, added = call.path["model_id"], wire.pairs(call.body, "tags")

    def work(conn: Connection) -> None:
        logged_models.change(conn, model_id, tags={**logged_models.get(conn, model_id).tags, **added})

    await call.yard.store.write_brief(work)
    return {}


async def set_params(call: Call) -> Any:
    """Params are set once: another value for one is refused, as it is for a run's."""
    model_id, added = call.path["model_id"], _params(call.body)

    def work(conn: Connection) -> None:
        held = logged_models.get(conn, model_id).params
        for key, value in added.items():
            if held.get(key, value) != value:
                raise Invalid(
                    f"Changing param values is not allowed. Param with key='{key}' was already logged with "
                    f"value='{held[key]}' for logged model ID='{model_id}'. Attempted logging new value '{value}'."
                )
        logged_models.change(conn, model_id, params={**held, **added})

    await call.yard.store.write_brief(work)
    return {}


def _params(body: wire.Json) -> dict[str, str]:
    limits.check_unique_params(item["key"] for item in wire.items(body, "params") if "key" in item)
    return wire.pairs(body, "params")


async def delete_tag(call: Call) -> Any:
    model_id, key = call.path["model_id"], call.path["key"]

    def work(conn: Connection) -> None:
        tags = dict(logged_models.get(conn, model_id).tags)
        if tags.pop(key, None) is None:
            raise NotFound(f"No tag with key {key!r} found for model with ID {model_id!r}.")
        logged_models.change(conn, model_id, tags=tags)

    await call.yard.store.write_brief(work)
    return {}


async def search(call: Call) -> Any:
    body = call.body
    asked = min(wire.whole(body, "max_results", 0) or 100, MOST_RESULTS)
    limit, at = wire.page({**body, "max_results": asked}, 100, MOST_RESULTS)
    numbers, wanted = wire.experiment_ids(body), wire.text(body, "filter", "")
    if body.get("experiment_ids") is None:
        raise wire.missing("experiment_ids")
    datasets = [_on_dataset(item) for item in wire.items(body, "datasets")]
    if any(not dataset.name for dataset in datasets):
        raise Invalid("`dataset_name` in the `datasets` clause must be specified.")
    orders = [_order(item) for item in wire.items(body, "order_by")]

    def work(conn: Connection) -> list[wire.Json]:
        return _shown(conn, search_models.search(conn, numbers, wanted, datasets, orders, limit + 1, at.offset))

    return wire.paged("models", await call.yard.store.read(work), limit, at)


def _on_dataset(item: wire.Json) -> OnDataset:
    return OnDataset(wire.text(item, "dataset_name", ""), wire.text(item, "dataset_digest", "") or None)


def _order(item: wire.Json) -> ModelOrder:
    on = _on_dataset(item)
    return ModelOrder(wire.text(item, "field_name"), item.get("ascending") is not False, on if on.name else None)


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
