"""MLflow's registered models, versions and aliases."""

from typing import Any

from sqlalchemy import Connection

from modelyard.build.tracking import search as filters
from modelyard.domain.errors import Invalid
from modelyard.domain.permissions import Permission
from modelyard.registry import models, versions
from modelyard.registry.versions import Version
from modelyard.server.mlflow_rest import wire
from modelyard.server.mlflow_rest.table import pair
from modelyard.server.registration import register
from modelyard.server.routes import Call, Route

STAGES = ("None", "Staging", "Production", "Archived")


def _shown(conn: Connection, model: models.Model) -> wire.Json:
    newest: dict[str, Version] = {}
    for version in versions.of_model(conn, model.name):
        newest.setdefault(version.stage, version)
    return wire.model(model, list(newest.values()), versions.aliases_of(conn, model.name))


async def create_model(call: Call) -> Any:
    body, actor = call.body, call.principal.name
    name, description = wire.text(body, "name"), wire.text(body, "description", "")
    tags = wire.pairs(body, "tags")
    made = await call.yard.store.write(
        lambda conn: models.create(conn, name, actor=actor, description=description, tags=tags)
    )
    return {"registered_model": wire.model(made, [], {})}


async def get_model(call: Call) -> Any:
    name = wire.text(wire.fields(call), "name")
    return {"registered_model": await call.yard.store.read(lambda conn: _shown(conn, models.get(conn, name)))}


async def update_model(call: Call) -> Any:
    return await _change_model(call, description=wire.text(call.body, "description", ""))


async def rename_model(call: Call) -> Any:
    return await _change_model(call, name=wire.text(call.body, "new_name"))


async def _change_model(call: Call, **values: Any) -> Any:
    name, actor = wire.text(call.body, "name"), call.principal.name
    found = await call.yard.store.write(lambda conn: _shown(conn, models.change(conn, name, actor=actor, **values)))
    return {"registered_model": found}


async def delete_model(call: Call) -> Any:
    name, actor = wire.text(call.body, "name"), call.principal.name
    await call.yard.store.write(lambda conn: models.remove(conn, name, actor=actor))
    return {}


async def search_models(call: Call) -> Any:
    body = wire.fields(call)
    limit, offset = wire.page(body, 100, 1000)
    like = _name_pattern(wire.text(body, "filter", ""))

    def work(conn: Connection) -> list[wire.Json]:
        return [_shown(conn, model) for model in models.every(conn, limit, offset, like)]

    found = await call.yard.store.read(work)
    return wire.paged({"registered_models": found}, len(found), limit, offset)


def _name_pattern(text: str) -> str:
    conditions = filters.parse(text) if text.strip() else []
    if not conditions:
        return "%"
    if len(conditions) > 1 or conditions[0].key != "name" or conditions[0].operator not in ("=", "LIKE", "ILIKE"):
        raise Invalid("Registered models are filtered by name.", remedy="Write name = 'x' or name LIKE '%x%'.")
    return str(conditions[0].value)


async def latest_versions(call: Call) -> Any:
    body = call.body if call.request.method == "POST" else wire.fields(call)
    name, stages = wire.text(body, "name"), wire.texts(body, "stages") or list(STAGES)

    def work(conn: Connection) -> list[wire.Json]:
        models.get(conn, name)
        newest: dict[str, Version] = {}
        for version in versions.of_model(conn, name):
            newest.setdefault(version.stage.lower(), version)
        return [wire.version(newest[stage.lower()]) for stage in stages if stage.lower() in newest]

    return {"model_versions": await call.yard.store.read(work)}


async def set_model_tag(call: Call) -> Any:
    return await _model_tag(call, wire.text(call.body, "value", ""))


async def delete_model_tag(call: Call) -> Any:
    return await _model_tag(call, None)


async def _model_tag(call: Call, value: str | None) -> Any:
    name, key, actor = wire.text(call.body, "name"), wire.text(call.body, "key"), call.principal.name
    await call.yard.store.write(lambda conn: models.set_tag(conn, name, key, value, actor=actor))
    return {}


async def get_alias(call: Call) -> Any:
    body = wire.fields(call)
    name, alias = wire.text(body, "name"), wire.text(body, "alias")
    found = await call.yard.store.read(lambda conn: versions.resolve(conn, name, alias))
    return {"model_version": wire.version(found)}


async def set_alias(call: Call) -> Any:
    return await _alias(call, wire.whole(call.body, "version"))


async def delete_alias(call: Call) -> Any:
    return await _alias(call, None)


async def _alias(call: Call, number: int | None) -> Any:
    name, alias, actor = wire.text(call.body, "name"), wire.text(call.body, "alias"), call.principal.name
    await call.yard.store.write(lambda conn: versions.set_alias(conn, name, alias, number, actor=actor))
    return {}


async def create_version(call: Call) -> Any:
    body, actor = call.body, call.principal
    name, source = wire.text(body, "name"), wire.text(body, "source")
    run_id, model_id = body.get("run_id") or None, body.get("model_id") or None
    details = {"description": wire.text(body, "description", ""), "tags": wire.pairs(body, "tags")}
    made = await call.yard.store.write(
        lambda conn: register(conn, name, source, actor=actor, run_id=run_id, model_id=model_id, **details)
    )
    return {"model_version": wire.version(made)}


async def get_version(call: Call) -> Any:
    body = wire.fields(call)
    name, number = wire.text(body, "name"), wire.whole(body, "version")
    found = await call.yard.store.read(lambda conn: versions.get(conn, name, number))
    return {"model_version": wire.version(found)}


async def update_version(call: Call) -> Any:
    return await _change_version(call, description=wire.text(call.body, "description", ""))


async def transition(call: Call) -> Any:
    """Stages live on the wire only; a stage neither approves nor deploys."""
    wanted = wire.text(call.body, "stage").lower()
    stage = next((known for known in STAGES if known.lower() == wanted), None)
    if stage is None:
        raise Invalid(f"Invalid Model Version stage: {wanted}.", remedy=f"Value must be one of {', '.join(STAGES)}.")
    return await _change_version(call, stage=stage)


async def _change_version(call: Call, **values: Any) -> Any:
    name, number, actor = wire.text(call.body, "name"), wire.whole(call.body, "version"), call.principal.name
    found = await call.yard.store.write(lambda conn: versions.change(conn, name, number, actor=actor, **values))
    return {"model_version": wire.version(found)}


async def delete_version(call: Call) -> Any:
    name, number, actor = wire.text(call.body, "name"), wire.whole(call.body, "version"), call.principal.name
    await call.yard.store.write(lambda conn: versions.remove(conn, name, number, actor=actor))
    return {}


async def search_versions(call: Call) -> Any:
    body = wire.fields(call)
    limit, offset = wire.page(body, 10_000, 200_000)
    equal = _version_filter(wire.text(body, "filter", ""))
    found = await call.yard.store.read(lambda conn: versions.matching(conn, limit, offset, **equal))
    return wire.paged({"model_versions": [wire.version(item) for item in found]}, len(found), limit, offset)


def _version_filter(text: str) -> dict[str, Any]:
    columns = {"name": "model", "run_id": "run_id", "source_path": "source", "version_number": "version"}
    equal: dict[str, Any] = {}
    for condition in filters.parse(text) if text.strip() else []:
        column = columns.get(condition.key)
        if column is None or condition.operator not in ("=", "among"):
            raise Invalid(
                f"Versions are not filtered by {condition.key} {condition.operator}.",
                remedy="Use =, or IN, on name, run_id, source_path or version_number.",
            )
        equal[column] = int(condition.value) if column == "version" else condition.value
    return equal


async def download_uri(call: Call) -> Any:
    body = wire.fields(call)
    name, number = wire.text(body, "name"), wire.whole(body, "version")
    found = await call.yard.store.read(lambda conn: versions.get(conn, name, number))
    return {"artifact_uri": f"models:/{found.model_id}" if found.model_id else found.source}


async def set_version_tag(call: Call) -> Any:
    return await _version_tag(call, wire.text(call.body, "value", ""))


async def delete_version_tag(call: Call) -> Any:
    return await _version_tag(call, None)


async def _version_tag(call: Call, value: str | None) -> Any:
    body, actor = call.body, call.principal.name
    name, number, key = wire.text(body, "name"), wire.whole(body, "version"), wire.text(body, "key")
    await call.yard.store.write(lambda conn: versions.set_tag(conn, name, number, key, value, actor=actor))
    return {}


R, W = Permission.VERSIONS_READ, Permission.VERSIONS_REGISTER
ROUTES: list[Route] = [
    *pair("POST", "mlflow/registered-models/create", W, create_model),
    *pair("GET", "mlflow/registered-models/get", R, get_model),
    *pair("PATCH", "mlflow/registered-models/update", W, update_model),
    *pair("POST", "mlflow/registered-models/rename", W, rename_model),
    *pair("DELETE", "mlflow/registered-models/delete", W, delete_model),
    *pair("GET", "mlflow/registered-models/search", R, search_models),
    *pair("GET", "mlflow/registered-models/get-latest-versions", R, latest_versions),
    *pair("POST", "mlflow/registered-models/get-latest-versions", R, latest_versions),
    *pair("POST", "mlflow/registered-models/set-tag", W, set_model_tag),
    *pair("DELETE", "mlflow/registered-models/delete-tag", W, delete_model_tag),
    *pair("GET", "mlflow/registered-models/alias", R, get_alias),
    *pair("POST", "mlflow/registered-models/alias", W, set_alias),
    *pair("DELETE", "mlflow/registered-models/alias", W, delete_alias),
    *pair("POST", "mlflow/model-versions/create", W, create_version),
    *pair("GET", "mlflow/model-versions/get", R, get_version),
    *pair("PATCH", "mlflow/model-versions/update", W, update_version),
    *pair("POST", "mlflow/model-versions/transition-stage", W, transition),
    *pair("DELETE", "mlflow/model-versions/delete", W, delete_version),
    *pair("GET", "mlflow/model-versions/search", R, search_versions),
    *pair("GET", "mlflow/model-versions/get-download-uri", R, download_uri),
    *pair("POST", "mlflow/model-versions/set-tag", W, set_version_tag),
    *pair("DELETE", "mlflow/model-versions/delete-tag", W, delete_version_tag),
]
