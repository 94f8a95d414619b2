"""Pipeline runs, runs for pipelines, and the files that they write."""

from typing import Any, Literal

import msgspec
from sqlalchemy import Connection
from starlette.responses import Response

from modelyard.build.pipelines import logs
from modelyard.build.tracking import artifacts, experiments, inputs, logged_models, pipeline_runs, runs
from modelyard.build.tracking.runs import Metric
from modelyard.build.tracking.search import search_experiments, search_runs
from modelyard.domain.errors import Invalid, NotFound
from modelyard.domain.permissions import Permission
from modelyard.kit.clock import now_ms
from modelyard.registry import versions
from modelyard.server.blobs import answer, incoming
from modelyard.server.mlflow_rest.artifacts import serve
from modelyard.server.routes import Call, Route

MOST_LOG = 200_000
"""Bytes of a step's log that one answer holds."""


class StepRecord(msgspec.Struct, forbid_unknown_fields=True):
    state: str
    key: str
    seconds: float
    started_at: int
    ended_at: int | None = None
    error: str | None = None
    details: dict[str, Any] = {}


class PipelineRunRecord(msgspec.Struct, forbid_unknown_fields=True):
    """A pipeline run as it is by now, told by its runner."""

    pipeline: str
    params: dict[str, Any]
    code: dict[str, Any]
    started_at: int
    state: Literal["running", "finished", "failed"]
    steps: dict[str, StepRecord]
    cause: str | None = None
    ended_at: int | None = None
    error: str | None = None


class NewDataset(msgspec.Struct, forbid_unknown_fields=True):
    """A dataset that a run reads; columns: type by name."""

    name: str
    digest: str
    source: str
    columns: dict[str, str] = {}
    rows: int | None = None


class NewRun(msgspec.Struct, forbid_unknown_fields=True):
    experiment: str
    name: str
    pipeline_run_id: str | None = None
    params: dict[str, str] = {}
    metrics: dict[str, float] = {}
    tags: dict[str, str] = {}
    datasets: list[NewDataset] = []


class NewLoggedModel(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class RunEnd(msgspec.Struct, forbid_unknown_fields=True):
    status: str


async def put_pipeline_run(call: Call) -> Any:
    """Tell or update a pipeline run; the same record may be told again."""
    record, run_id, actor = msgspec.to_builtins(call.body), call.path["id"], call.principal.name
    if record["state"] != "running" and record["ended_at"] is None:
        raise Invalid("A pipeline run that is over has ended_at.")
    await call.yard.store.write(lambda conn: pipeline_runs.put(conn, run_id, record, actor=actor))
    return {}


async def list_pipeline_runs(call: Call) -> Any:
    return {"pipeline_runs": await call.yard.store.read(pipeline_runs.newest), "next": None}


async def get_pipeline_run(call: Call) -> Any:
    return await call.yard.store.read(lambda conn: pipeline_runs.get(conn, call.path["id"]))


async def get_step_log(call: Call) -> Any:
    """The newest of what a step printed, also while it runs; kept by the machine that runs the pipeline."""
    run_id, step = call.path["id"], call.path["step"]
    found = await call.yard.store.read(lambda conn: pipeline_runs.get(conn, run_id))
    if all(each.step != step for each in found.steps):
        raise NotFound(f"Pipeline run {run_id} has no step {step[:200]!r}.")
    log = logs.newest(call.yard.home, run_id, step, MOST_LOG)
    return {"text": log[0] if log else None, "whole": log[1] if log else True}


async def create_run(call: Call) -> Any:
    """A run with its params, metrics and tags at once."""
    body, actor = call.body, call.principal.name

    def work(conn: Connection) -> dict[str, Any]:
        experiment = experiments.ensure(conn, body.experiment, actor=actor)
        tags = {"mlflow.runName": body.name, "mlflow.user": actor, **body.tags}
        made = runs.create(
            conn,
            experiment.id,
            actor=actor,
            name=body.name,
            user_id=actor,
            tags=tags,
            pipeline_run_id=body.pipeline_run_id,
        )
        now = now_ms()
        runs.log_batch(conn, made.id, [Metric(key, value, now) for key, value in body.metrics.items()], body.params)
        datasets = [inputs.dataset(msgspec.to_builtins(each)) for each in body.datasets]
        inputs.add(conn, made.id, inputs.DATASET, datasets)
        return {"id": made.id, "artifact_root": artifacts.run_root(experiment.id, made.id)}

    return await call.yard.store.write(work)


async def end_run(call: Call) -> Any:
    run_id, status, actor = call.path["id"], call.body.status, call.principal.name
    await call.yard.store.write(lambda conn: runs.change(conn, run_id, actor=actor, status=status, ended_at=now_ms()))
    return {}


async def create_logged_model(call: Call) -> Any:
    run_id, name, actor = call.path["id"], call.body.name, call.principal.name

    def work(conn: Connection) -> dict[str, Any]:
        row = runs.row_of(conn, run_id)
        made = logged_models.create(conn, row.experiment_id, actor=actor, name=name, run_id=run_id)
        logged_models.change(conn, made.id, status=logged_models.READY)
        return {"id": made.id, "artifact_root": artifacts.model_root(row.experiment_id, made.id)}

    return await call.yard.store.write(work)


async def list_runs(call: Call) -> Any:
    """Runs of an experiment by name (all without one), filtered by MLflow's language."""
    wanted, text, order = call.query.get("experiment"), call.query.get("filter", ""), call.query.get("order")
    limit = int(call.query.get("limit", "100")) if call.query.get("limit", "100").isdigit() else 0
    if not 1 <= limit <= 10_000:
        raise Invalid("limit is a number from 1 to 10000.")

    def work(conn: Connection) -> list[dict[str, Any]]:
        if wanted:
            found = {experiments.by_name(conn, wanted).id: wanted}
        else:
            found = {item.id: item.name for item in search_experiments(conn)}
        listed = search_runs(conn, list(found), text, order_by=[order] if order else None, limit=limit)
        return [_shown(run, found[run.experiment_id]) for run in listed]

    return {"runs": await call.yard.store.read(work), "next": None}


async def get_run(call: Call) -> Any:
    def work(conn: Connection) -> dict[str, Any]:
        found = runs.get(conn, call.path["id"])
        return _shown(found, experiments.get(conn, found.experiment_id).name)

    return await call.yard.store.read(work)


def _shown(run: runs.Run, experiment: str) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "experiment": experiment,
        "status": run.status,
        "author": run.author,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "pipeline_run_id": run.pipeline_run_id,
        "params": run.params,
        "metrics": {metric.key: metric.value for metric in run.metrics},
        "tags": run.tags,
    }


async def upload(call: Call) -> Any:
    path = artifacts.clean(call.path["path"])
    async with incoming(call.request) as pieces:
        blob = await call.yard.objects.put(pieces)
    await call.yard.store.write(lambda conn: artifacts.put(conn, path, blob))
    return {"digest": blob.digest, "size": blob.size}


async def download(call: Call) -> Response:
    return await serve(call, call.path["path"])


async def download_version_file(call: Call) -> Response:
    """A file of a registered version, by its path in the manifest."""
    name, number, path = call.path["name"], int(call.path["version"]), call.path["path"]
    held = await call.yard.store.read(lambda conn: versions.files(conn, name, number))
    files = {file.path: file for file in held}
    if path not in files:
        raise Invalid(f"{name} v{number} has no file {path!r}.", remedy=f"It has: {', '.join(sorted(files))}.")
    return await answer(call, files[path].digest, files[path].size)


RR, RW = Permission.RUNS_READ, Permission.RUNS_WRITE
PR, PX = Permission.PIPELINES_READ, Permission.PIPELINES_RUN
ROUTES = [
    Route("GET", "/api/v1/pipeline-runs", PR, list_pipeline_runs),
    Route("GET", "/api/v1/pipeline-runs/{id}", PR, get_pipeline_run),
    Route("PUT", "/api/v1/pipeline-runs/{id}", PX, put_pipeline_run, body=PipelineRunRecord),
    Route("GET", "/api/v1/pipeline-runs/{id}/logs/{step:path}", PR, get_step_log),
    Route("GET", "/api/v1/runs", RR, list_runs),
    Route("POST", "/api/v1/runs", RW, create_run, body=NewRun),
    Route("GET", "/api/v1/runs/{id}", RR, get_run),
    Route("POST", "/api/v1/runs/{id}/end", RW, end_run, body=RunEnd),
    Route("POST", "/api/v1/runs/{id}/logged-models", RW, create_logged_model, body=NewLoggedModel),
    Route("PUT", "/api/v1/artifacts/{path:path}", RW, upload, stream=True),
    Route("GET", "/api/v1/artifacts/{path:path}", RR, download),
    Route(
        "GET",
        "/api/v1/models/{name}/versions/{version}/files/{path:path}",
        Permission.VERSIONS_READ,
        download_version_file,
    ),
]
