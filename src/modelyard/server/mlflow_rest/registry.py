"""MLflow's registered models, versions and aliases."""

import math
import re
from typing import Any

from sqlalchemy import Connection

from modelyard.build.tracking import limits, runs
from modelyard.domain.errors import Invalid
from modelyard.domain.permissions import Permission
from modelyard.registry import evidence, models, search, versions
from modelyard.registry.versions import Version
from modelyard.server.mlflow_rest import wire
from modelyard.server.mlflow_rest.table import pair
from modelyard.server.registration import register
from modelyard.server.routes import Call, Route

STAGES = ("None", "Staging", "Production", "Archived")
ACTIVE_STAGES = ("Staging", "Production")
BAD_ALIAS = "Names may only contain alphanumerics, underscores (_), and dashes (-)."


def _newest_by_stage(conn: Connection, name: str) -> list[Version]:
    """The newest version of each stage, in the order in which the stages' first versions came."""
    newest: dict[str, Version] = {}
    for version in reversed(versions.of_model(conn, name)):
        newest[version.stage] = version
    return list(newest.values())


def _shown(conn: Connection, model: models.Model) -> wire.Json:
    return wire.model(model, _newest_by_stage(conn, model.name), versions.aliases_of(conn, model.name))


def _model_name(body: wire.Json, key: str = "name") -> str:
    """Raises Invalid for a name that no registered model may have."""
    name = wire.text(body, key)
    if not name.strip():
        raise wire.missing(key)
    if "/" in name or ":" in name:
        raise Invalid(f"Invalid model name '{name[:300]}'. Names cannot contain '/' or ':'.")
    return name


def _number(body: wire.Json) -> int:
    """A version's number, which the wire writes as text."""
    given = body.get("version")
    if given is None or given == "":
        raise wire.missing("version")
    if not re.fullmatch(r"-?\d{1,18}", str(given)):
        raise Invalid(f"Parameter 'version' must be an integer, got '{str(given)[:100]}'.")
    return int(given)


def _tags(body: wire.Json) -> dict[str, str]:
    tags = wire.pairs(body, "tags")
    for key, value in tags.items():
        limits.check_registry_tag(key, value)
    return tags


async def create_model(call: Call) -> Any:
    body, actor = call.body, call.principal.name
    name, description = _model_name(body), wire.text(body, "description", "")
    tags = _tags(body)
    made = await call.yard.store.write(
        lambda conn: models.create(conn, name, actor=actor, description=description, tags=tags)
    )
    return {"registered_model": wire.model(made, [], {})}


async def get_model(call: Call) -> Any:
    name = _model_name(wire.fields(call))
    return {"registered_model": await call.yard.store.read_brief(lambda conn: _shown(conn, models.get(conn, name)))}


async def update_model(call: Call) -> Any:
    return await _change_model(call, description=wire.text(call.body, "description", ""))


async def rename_model(call: Call) -> Any:
    return await _change_model(call, name=_model_name(call.body, "new_name"))


async def _change_model(call: Call, **values: Any) -> Any:
    name, actor = _model_name(call.body), call.principal.name
    found = await call.yard.store.write(lambda conn: _shown(conn, models.change(conn, name, actor=actor, **values)))
    return {"registered_model": found}


async def delete_model(call: Call) -> Any:
    name, actor = _model_name(call.body), call.principal.name
    await call.yard.store.write(lambda conn: models.remove(conn, name, actor=actor))
    return {}


async def find_models(call: Call) -> Any:
    body = wire.fields(call)
    limit, at = wire.page(body, 100, 1000)
    wanted, order = wire.text(body, "filter", ""), wire.texts(body, "order_by")

    def work(conn: Connection) -> list[wire.Json]:
        return [_shown(conn, model) for model in search.search_models(conn, wanted, order, limit + 1, at.offset)]

    return wire.paged("registered_models", await call.yard.store.read(work), limit, at)


async def latest_versions(call: Call) -> Any:
    body = call.body if call.request.method == "POST" else wire.fields(call)
    name, stages = _model_name(body), [_stage(stage) for stage in wire.texts(body, "stages")] or list(STAGES)

    def work(conn: Connection) -> list[wire.Json]:
        models.get(conn, name)
        return [wire.version(version) for version in _newest_by_stage(conn, name) if version.stage in stages]

    return {"model_versions": await call.yard.store.read(work)}


async def set_model_tag(call: Call) -> Any:
    return await _model_tag(call, wire.text(call.body, "value", ""))


async def delete_model_tag(call: Call) -> Any:
    return await _model_tag(call, None)


async def _model_tag(call: Call, value: str | None) -> Any:
    name, key, actor = _model_name(call.body), wire.text(call.body, "key"), call.principal.name
    _check_tag(key, value)
    await call.yard.store.write(lambda conn: models.set_tag(conn, name, key, value, actor=actor))
    return {}


def _check_tag(key: str, value: str | None) -> None:
    """Raises Invalid for a tag that cannot be set; one that is removed (None) only needs a name."""
    if value is None:
        limits.check_name(key, "key")
    else:
        limits.check_registry_tag(key, value)


def _alias_name(body: wire.Json) -> str:
    alias = wire.text(body, "alias")
    if not re.fullmatch(r"[\w\-]*", alias):
        raise Invalid(f"Invalid alias name: '{alias[:300]}'. {BAD_ALIAS}")
    limits.check_length("Registered model alias name", alias, versions.MOST_ALIAS)
    return alias


async def get_alias(call: Call) -> Any:
    body = wire.fields(call)
    name, alias = _model_name(body), _alias_name(body)

    def work(conn: Connection) -> Version:
        if alias.lower() == "latest":
            models.get(conn, name)
            return versions.resolve(conn, name, "latest")
        number = versions.aliases_of(conn, name).get(alias)
        if number is None:
            models.get(conn, name)
            raise Invalid(f"Registered model alias {alias} not found.")
        return versions.get(conn, name, number)

    return {"model_version": wire.version(await call.yard.store.read_brief(work))}


async def set_alias(call: Call) -> Any:
    alias = _alias_name(call.body)
    if alias.lower() == "latest":
        raise Invalid("'latest' alias name (case insensitive) is reserved.")
    if re.fullmatch(r"[vV]\d+", alias):
        raise Invalid(f"Version alias name '{alias}' is reserved.")
    return await _alias(call, _number(call.body))


async def delete_alias(call: Call) -> Any:
    return await _alias(call, None)


async def _alias(call: Call, number: int | None) -> Any:
    name, alias, actor = _model_name(call.body), _alias_name(call.body), call.principal.name
    await call.yard.store.write(lambda conn: versions.set_alias(conn, name, alias, number, actor=actor))
    return {}


async def create_version(call: Call) -> Any:
    body, actor = call.body, call.principal
    name, source = _model_name(body), wire.text(body, "source")
    run_id, model_id = body.get("run_id") or None, body.get("model_id") or None
    details = {"description": wire.text(body, "description", ""), "tags": _tags(body)}
    declared = call.yard.project.models

    def work(conn: Connection) -> Version:
        """MLflow has no word for an evaluation: what the run measured is the evidence, so that gates can decide.

        A model that the project does not declare has no gates, and is left to its client alone.
        """
        made = register(conn, name, source, actor=actor, run_id=run_id, model_id=model_id, bare=True, **details)
        if name not in declared:
            return made
        known = made.run_id and runs.find(conn, made.run_id) is not None
        measured = runs.get(conn, made.run_id).metrics if known and made.run_id else []
        metrics = {metric.key: metric.value for metric in measured if math.isfinite(metric.value)}
        content = {"metrics": metrics, "measured_by": f"runs:/{made.run_id}" if made.run_id else "nobody"}
        evidence.attach(conn, name, made.version, evidence.EVALUATION, content, actor=actor.name)
        return made

    return {"model_version": wire.version(await call.yard.store.write(work))}


async def get_version(call: Call) -> Any:
    body = wire.fields(call)
    name, number = _model_name(body), _number(body)
    found = await call.yard.store.read_brief(lambda conn: versions.get(conn, name, number))
    return {"model_version": wire.version(found)}


async def update_version(call: Call) -> Any:
    return await _change_version(call, description=wire.text(call.body, "description", ""))


def _stage(wanted: str) -> str:
    stage = next((known for known in STAGES if known.lower() == wanted.lower()), None)
    if stage is None:
        raise Invalid(f"Invalid Model Version stage: {wanted}.", remedy=f"Value must be one of {', '.join(STAGES)}.")
    return stage


async def transition(call: Call) -> Any:
    """Stages live on the wire, and as an alias of the same name; a stage neither approves nor deploys."""
    name, number, actor = _model_name(call.body), _number(call.body), call.principal.name
    stage, archive = _stage(wire.text(call.body, "stage")), call.body.get("archive_existing_versions") is True
    if archive and stage not in ACTIVE_STAGES:
        raise Invalid(
            "Model version transition cannot archive existing model versions because "
            f"'{stage}' is not an Active stage. Valid stages are {ACTIVE_STAGES}"
        )

    def work(conn: Connection) -> wire.Json:
        before = versions.get(conn, name, number)
        if archive:
            for other in versions.of_model(conn, name):
                if other.stage == stage and other.version != number:
                    versions.change(conn, name, other.version, actor=actor, stage="Archived")
        held = versions.aliases_of(conn, name)
        if before.stage in ACTIVE_STAGES and held.get(before.stage.lower()) == number:
            versions.set_alias(conn, name, before.stage.lower(), None, actor=actor)
        changed = versions.change(conn, name, number, actor=actor, stage=stage)
        if stage in ACTIVE_STAGES:
            versions.set_alias(conn, name, stage.lower(), number, actor=actor)
        return wire.version(versions.get(conn, name, changed.version))

    return {"model_version": await call.yard.store.write(work)}


async def _change_version(call: Call, **values: Any) -> Any:
    name, number, actor = _model_name(call.body), _number(call.body), call.principal.name
    found = await call.yard.store.write(lambda conn: versions.change(conn, name, number, actor=actor, **values))
    return {"model_version": wire.version(found)}


async def delete_version(call: Call) -> Any:
    name, number, actor = _model_name(call.body), _number(call.body), call.principal.name
    await call.yard.store.write(lambda conn: versions.remove(conn, name, number, actor=actor))
    return {}


async def find_versions(call: Call) -> Any:
    body = wire.fields(call)
    limit, at = wire.page(body, 10_000, 200_000)
    wanted, order = wire.text(body, "filter", ""), wire.texts(body, "order_by")

    def work(conn: Connection) -> list[wire.Json]:
        return [wire.version(item) for item in search.search_versions(conn, wanted, order, limit + 1, at.offset)]

    return wire.paged("model_versions", await call.yard.store.read(work), limit, at)


async def download_uri(call: Call) -> Any:
    body = wire.fields(call)
    name, number = _model_name(body), _number(body)
    found = await call.yard.store.read_brief(lambda conn: versions.get(conn, name, number))
    return {"artifact_uri": found.location or found.source}


async def set_version_tag(call: Call) -> Any:
    return await _version_tag(call, wire.text(call.body, "value", ""))


async def delete_version_tag(call: Call) -> Any:
    return await _version_tag(call, None)


async def _version_tag(call: Call, value: str | None) -> Any:
    body, actor = call.body, call.principal.name
    name, number, key = _model_name(body), _number(body), wire.text(body, "key")
    _check_tag(key, value)
    await call.yard.store.write(lambda conn: versions.set_tag(conn, name, number, key, value, actor=actor))
    return {}


R, W = Permission.VERSIONS_READ, Permission.VERSIONS_REGISTER
ROUTES: list[Route] = [
    *pair("POST", "mlflow/registered-models/create", W, create_model),
    *pair("GET", "mlflow/registered-models/get", R, get_model),
    *pair("PATCH", "mlflow/registered-models/update", W, update_model),
    *pair("POST", "mlflow/registered-models/rename", W, rename_model),
    *pair("DELETE", "mlflow/registered-models/delete", W, delete_model),
    *pair("GET", "mlflow/registered-models/search", R, find_models),
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
    *pair("GET", "mlflow/model-versions/search", R, find_versions),
    *pair("GET", "mlflow/model-versions/get-download-uri", R, download_uri),
    *pair("POST", "mlflow/model-versions/set-tag", W, set_version_tag),
    *pair("DELETE", "mlflow/model-versions/delete-tag", W, delete_version_tag),
]
