"""What `modelyard import` writes with: records that keep the ids, authors and times of where they come from."""

from typing import Any

import msgspec
from sqlalchemy import Connection

from modelyard.build.tracking import artifacts, experiments, imports, logged_models, metrics, runs
from modelyard.build.tracking.metrics import Metric
from modelyard.domain.errors import Invalid
from modelyard.domain.permissions import Permission
from modelyard.registry import models, versions
from modelyard.server.registration import register
from modelyard.server.routes import Call, Route


class ImportedExperiment(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    tags: dict[str, str] = {}


class ImportedRun(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    experiment_id: int
    name: str
    user: str
    started_at: int
    origin: str
    stamp: str


class ImportedEnd(msgspec.Struct, forbid_unknown_fields=True):
    status: str
    ended_at: int | None
    lifecycle: str
    stamp: str


class ImportedModel(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    experiment_id: int
    name: str
    run_id: str | None
    status: str
    model_type: str
    created_at: int
    updated_at: int
    params: dict[str, str]
    tags: dict[str, str]


class ImportedPoint(msgspec.Struct, forbid_unknown_fields=True):
    """`value` is NaN, Infinity or -Infinity as text where JSON has no number for it."""

    run_id: str
    key: str
    value: float | str
    timestamp: int
    step: int
    dataset_name: str | None
    dataset_digest: str | None


class ImportedLine(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    description: str
    tags: dict[str, str]


class ImportedVersion(msgspec.Struct, forbid_unknown_fields=True):
    number: int
    source: str
    run_id: str | None
    model_id: str | None
    description: str
    tags: dict[str, str]
    stage: str
    user: str
    created_at: int


async def put_experiment(call: Call) -> Any:
    """The experiment of that name, made when there is none; a deleted one is restored until the import ends it."""
    body, actor = call.body, call.principal.name

    def work(conn: Connection) -> dict[str, Any]:
        made = experiments.ensure(conn, body.name, actor=actor)
        if made.lifecycle == experiments.DELETED:
            experiments.change(conn, made.id, actor=actor, lifecycle=experiments.ACTIVE)
        for key, value in body.tags.items():
            experiments.set_tag(conn, made.id, key, value)
        return {"id": made.id}

    return await call.yard.store.write(work)


async def begin_run(call: Call) -> Any:
    """`present`: the run is here already, imported whole from the same content."""
    body, actor = call.body, call.principal.name

    def work(conn: Connection) -> dict[str, Any]:
        stamp = imports.begin_run(
            conn,
            body.id,
            body.experiment_id,
            actor=actor,
            name=body.name,
            user=body.user,
            started_at=body.started_at,
            origin=body.origin,
        )
        if stamp is not None and stamp != body.stamp:
            imports.reopen_run(conn, body.id)
        return {"present": stamp == body.stamp, "artifact_root": artifacts.run_root(body.experiment_id, body.id)}

    return await call.yard.store.write(work)


async def end_run(call: Call) -> Any:
    run_id, body, actor = call.path["id"], call.body, call.principal.name
    values = {"status": body.status, "ended_at": body.ended_at, "lifecycle": body.lifecycle, "stamp": body.stamp}
    await call.yard.store.write(lambda conn: imports.end_run(conn, run_id, actor=actor, **values))
    return {}


async def held(call: Call) -> Any:
    run_id = call.path["id"]
    return await call.yard.store.read(lambda conn: imports.held(conn, run_id))


async def put_logged_model(call: Call) -> Any:
    body, actor = call.body, call.principal.name
    names = ("name", "run_id", "status", "model_type", "created_at", "updated_at", "params", "tags")
    values = {name: getattr(body, name) for name in names}

    def work(conn: Connection) -> dict[str, Any]:
        root = imports.put_logged_model(conn, body.id, body.experiment_id, actor=actor, values=values)
        return {"artifact_root": root, "files": artifacts.under(conn, root)}

    return await call.yard.store.write(work)


async def put_model_points(call: Call) -> Any:
    """The number of points that runs logged about this model, these among them."""
    model_id = call.path["id"]
    by_run: dict[str, list[Metric]] = {}
    for item in call.body:
        dataset = (item.dataset_name, item.dataset_digest)
        point = Metric(item.key, _number(item.value), item.timestamp, item.step, model_id, *dataset)
        by_run.setdefault(item.run_id, []).append(point)

    def work(conn: Connection) -> dict[str, Any]:
        logged_models.get(conn, model_id)
        for run_id, points in by_run.items():
            metrics.write_about_models(conn, runs.row_of(conn, run_id).num, points)
        return {"points": len(metrics.of_models(conn, [model_id])[model_id])}

    return await call.yard.store.write(work)


def _number(value: float | str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise Invalid(f"{value!r} is not a number.", remedy="Write NaN, Infinity or -Infinity.") from error


async def put_model(call: Call) -> Any:
    """The registered model of that name, made when there is none; what is here already is kept."""
    body, actor = call.body, call.principal.name

    def work(conn: Connection) -> dict[str, Any]:
        if models.find(conn, body.name) is None:
            models.create(conn, body.name, actor=actor, description=body.description, tags=body.tags)
        return {"name": body.name}

    return await call.yard.store.write(work)


async def put_version(call: Call) -> Any:
    """A version under its own number; `present` when it is here already with the same files."""
    name, body, actor = call.path["name"], call.body, call.principal

    def work(conn: Connection) -> dict[str, Any]:
        if models.find(conn, name) is None:
            models.create(conn, name, actor=actor.name)
        found = versions.find(conn, name, body.number)
        if found is not None:
            return {"present": True, "digest": found.digest}
        made = register(
            conn,
            name,
            body.source,
            actor=actor,
            run_id=body.run_id,
            model_id=body.model_id,
            author=body.user or None,
            description=body.description,
            tags=body.tags,
            number=body.number,
            bare=True,
            created_at=body.created_at,
        )
        if body.stage != "None":
            versions.change(conn, name, made.version, actor=actor.name, stage=body.stage)
        return {"present": False, "digest": made.digest}

    return await call.yard.store.write(work)


A = Permission.YARD_ADMIN
ROUTES = [
    Route("POST", "/api/v1/imports/experiments", A, put_experiment, body=ImportedExperiment),
    Route("POST", "/api/v1/imports/runs", A, begin_run, body=ImportedRun),
    Route("GET", "/api/v1/imports/runs/{id}", A, held),
    Route("POST", "/api/v1/imports/runs/{id}/end", A, end_run, body=ImportedEnd),
    Route("POST", "/api/v1/imports/logged-models", A, put_logged_model, body=ImportedModel),
    Route("POST", "/api/v1/imports/logged-models/{id}/points", A, put_model_points, body=list[ImportedPoint]),
    Route("POST", "/api/v1/imports/models", A, put_model, body=ImportedLine),
    Route("POST", "/api/v1/imports/models/{name}/versions", A, put_version, body=ImportedVersion),
]
