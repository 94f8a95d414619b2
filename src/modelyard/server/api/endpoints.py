"""Endpoints: what is wanted, what runs, why they differ; deploy, roll back, pause, resume, promote, abort."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection
from starlette.responses import StreamingResponse

from modelyard.deliver.deployments import (
    agents,
    declaring,
    explaining,
    measuring,
    offline,
    places,
    publishing,
    records,
    rollouts,
)
from modelyard.deliver.deployments.declaring import Declared
from modelyard.deliver.deployments.offline import Switched
from modelyard.deliver.deployments.records import Rollout
from modelyard.deliver.serving import certificates, ground_truth, probe
from modelyard.deliver.serving.ground_truth import Labels
from modelyard.deliver.serving.stats import quantile_ms
from modelyard.domain.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from modelyard.domain.permissions import Permission
from modelyard.domain.project import Project
from modelyard.kit.clock import now_ms
from modelyard.kit.hashing import sha256_hex
from modelyard.server.blobs import chained
from modelyard.server.guard import secret_in
from modelyard.server.routes import Call, Route


class NewDeployment(msgspec.Struct, forbid_unknown_fields=True):
    """`accept_breaking`: why callers can live with a signature that is not compatible with the one before."""

    model: str
    version: int
    accept_breaking: str | None = None


class Reason(msgspec.Struct, forbid_unknown_fields=True):
    """`not_after` (ms): whoever asked does it another way from then on."""

    reason: str
    not_after: int | None = None


class Back(Reason, forbid_unknown_fields=True):
    """`to`: the version that is to have all the traffic. Where it has, or a rollback leads elsewhere by now, nothing
    is changed: so a request may be sent twice.
    """

    to: int | None = None


def gateway_url(home: Path, environment: str) -> str | None:
    """Where an environment's gateway listens; None when it does not run."""
    try:
        return json.loads((home / "run" / f"gateway-{environment}.json").read_text())["url"]
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _stored(conn: Connection, project: Project, environment: str | None, name: str | None) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    far = agents.every(conn)
    for endpoint in records.find_endpoints(conn, environment):
        if name is not None and endpoint.name != name:
            continue
        rollout = records.active_rollout(conn, endpoint.environment, endpoint.name)
        serving = publishing.serving_of(endpoint, project.models)
        named = {"live": endpoint.live, "previous": endpoint.previous}
        named["next"] = rollout.to_deployment if rollout else None
        shown.append(
            {
                "environment": endpoint.environment,
                "name": endpoint.name,
                "deployments": {
                    role: records.get(conn, deployment).__dict__ for role, deployment in named.items() if deployment
                },
                "rollout": rollout.__dict__ if rollout else None,
                "watch": endpoint.watch,
                "declared": {key: getattr(endpoint, key) for key in Declared.__struct_fields__},
                "workers_each": serving.workers,
                "log": {"sample": serving.log.sample, "keep": serving.log.keep},
                "agents": [agent for agent in far if agent["environment"] == endpoint.environment],
                "history": [item.__dict__ for item in records.history(conn, endpoint.environment, endpoint.name)],
                "updated_at": endpoint.updated_at,
            }
        )
    return shown


async def observe(call: Call, environment: str | None = None, name: str | None = None) -> list[dict[str, Any]]:
    """Endpoints with their live traffic."""
    found = await call.yard.store.read(lambda conn: _stored(conn, call.yard.project, environment, name))
    stats: dict[str, dict[str, Any]] = {}
    for item in found:
        place = item["environment"]
        if place not in stats:
            stats[place] = await probe.ask(str(places.admin_socket(call.yard.home, place))) or {}
        item["url"] = gateway_url(call.yard.home, place)
        item["gateway"] = "answers" if stats[place] else "does not answer"
        counted = stats[place].get("endpoints", {}).get(item["name"], {}).get("deployments", {})
        item["workers"] = stats[place].get("workers", {})
        item["traffic"] = {deployment: _traffic(held) for deployment, held in counted.items()}
        item["differences"] = await explaining.differences(call.yard.home, call.yard.project, item, stats[place])
    return found


def _traffic(held: dict[str, Any]) -> dict[str, Any]:
    counts = held["latency_ms"]["counts"]
    return {
        **{key: held[key] for key in ("version", "requests", "errors", "client_errors", "declined", "retries")},
        **{key: count for key, count in held.items() if key.startswith("shadow_")},
        "p50_ms": quantile_ms(counts, 0.5),
        "p99_ms": quantile_ms(counts, 0.99),
    }


async def list_endpoints(call: Call) -> Any:
    """`server`: what of this server needs somebody's attention, in sentences."""
    own = call.yard.certificates
    said = certificates.warnings(own.told() if own is not None else None, now_ms())
    return {"endpoints": await observe(call), "server": said, "next": None}


async def get_endpoint(call: Call) -> Any:
    environment, name = call.path["environment"], call.path["name"]
    await call.yard.store.read(lambda conn: records.get_endpoint(conn, environment, name))
    return (await observe(call, environment, name))[0]


async def deploy(call: Call) -> Any:
    environment, body, actor = call.path["environment"], call.body, call.principal.name
    project = call.yard.project
    return await call.yard.store.write(
        lambda conn: rollouts.deploy(
            conn,
            project,
            body.model,
            body.version,
            environment,
            actor=actor,
            cause=None,
            accept_breaking=body.accept_breaking,
        )
    )


async def rollback(call: Call) -> Any:
    """Traffic back to the version before: {"from", "to", "how"}; how is warm, cold, aborted (a rollout), or already.

    Where the version before is warm, this machine's gateway has its traffic there before the database is asked.
    """
    environment, name, actor = call.path["environment"], call.path["name"], call.principal.name
    reason, to, yard = call.body.reason, call.body.to, call.yard
    _in_time(call)
    done = await _switched(call, "rollback", to=to)
    if done is not None:
        told = {"environment": environment, "model": name, "from": done.away, "to": done.back, "how": done.how}
        told["reason"] = reason
        return await offline.record(yard.store, yard.project, yard.home, environment, done.operation, told)

    def work(conn: Connection) -> dict[str, Any]:
        _in_time(call)
        return rollouts.rollback(conn, yard.project, environment, name, reason, actor=actor, to=to)

    return await yard.store.write(work)


def _in_time(call: Call) -> None:
    """Raise Unavailable when whoever asked has given up."""
    if call.body.not_after is not None and now_ms() > call.body.not_after:
        raise Unavailable("This came too late.", remedy="It was given up by whoever asked for it.")


async def _switched(call: Call, kind: offline.Kind, **expected: Any) -> Switched | None:
    """What this machine's gateway follows now, before anything is written down; None where it cannot be told."""
    environment, name = call.path["environment"], call.path["name"]
    secret = secret_in(call.request.headers)
    if not secret:
        return None
    asked = (environment, name, call.body.reason, sha256_hex(secret.encode()), kind)
    try:
        return await asyncio.to_thread(offline.switch, call.yard.home, *asked, **expected)
    except (Conflict, Forbidden, NotFound, Unavailable):  # its files are behind the database, or it is not here
        return None


async def steer(call: Call) -> Any:
    """Pause, resume, promote or abort the rollout under way. To go on is to deploy; to hold or take back is not."""
    environment, name, action = call.path["environment"], call.path["name"], call.path["action"]
    actor, project, reason = call.principal.name, call.yard.project, call.body.reason
    if action in ("resume", "promote"):
        call.require(Permission.DEPLOYMENTS_DEPLOY, environment)
    if action == "abort":
        return await _abort(call)

    def work(conn: Connection) -> Any:
        _in_time(call)
        rollout = _under_way(conn, environment, name)
        if action == "pause":
            rollouts.pause(conn, rollout, actor=actor, reason=reason)
        elif action == "resume":
            rollouts.resume(conn, rollout, actor=actor, reason=reason)
        elif action == "promote":
            rollouts.promote(conn, project, rollout, actor=actor, reason=reason)
        else:
            raise Invalid(f"{action!r} is not known.", remedy="One of pause, resume, promote, abort.")
        return records.get_rollout(conn, rollout.id)

    return await call.yard.store.write(work)


async def _abort(call: Call) -> Any:
    """The rollout, aborted: the gateway first, as in a rollback."""
    environment, name, actor = call.path["environment"], call.path["name"], call.principal.name
    yard, why = call.yard, f"by {actor}: {call.body.reason}"

    def work(conn: Connection) -> None:
        _in_time(call)
        rollouts.abort(conn, seen, why, actor=actor)

    _in_time(call)
    seen = await yard.store.read_brief(lambda conn: _under_way(conn, environment, name))
    done = await _switched(call, "abort", coming=seen.to_deployment)
    if done is None:
        await yard.store.write(work)
    else:
        await offline.record(yard.store, yard.project, yard.home, environment, done.operation, {})
    return await yard.store.read(lambda conn: records.get_rollout(conn, seen.id))


def _under_way(conn: Connection, environment: str, name: str) -> Rollout:
    rollout = records.active_rollout(conn, environment, name)
    if rollout is None:
        raise Conflict(f"No rollout is under way at {environment}/{name}.", remedy="See: modelyard endpoints")
    return rollout


async def declare(call: Call) -> Any:
    """How the endpoint's rollouts go from the next one on, and from now on what takes a deployment back, its workers
    by load, and where they run; null: as declared elsewhere.
    """
    environment, name, actor = call.path["environment"], call.path["name"], call.principal.name
    project, said = call.yard.project, call.body

    def work(conn: Connection) -> Any:
        declaring.declare(conn, project, environment, name, said, actor=actor)
        return {"rollout": records.policy_at(project, records.get_endpoint(conn, environment, name))}

    return await call.yard.store.write(work)


async def remove(call: Call) -> Any:
    """Take an endpoint away; its workers stop."""
    environment, name, actor = call.path["environment"], call.path["name"], call.principal.name
    reason = call.body.reason
    await call.yard.store.write(lambda conn: declaring.remove(conn, environment, name, reason, actor=actor))
    return {}


async def add_ground_truth(call: Call) -> Any:
    """Labels of predictions, by prediction id; late, repeated and out of order are welcome."""
    environment, name = call.path["environment"], call.path["name"]
    endpoint = await call.yard.store.read(lambda conn: records.get_endpoint(conn, environment, name))
    folder = places.predictions(call.yard.home, environment, name)
    now = now_ms()
    labels = call.body.at(now)
    declared = call.yard.project.models.get(endpoint.model)
    if reason := ground_truth.unfit(labels, declared.task if declared else ""):
        raise Invalid(f"{reason}.", remedy="Send numbers, or declare the model's task: binary or multiclass.")
    written = ground_truth.append(folder, labels)
    return {"labels": written, "came": now}


async def look_at_ground_truth(call: Call) -> Any:
    """How many labels that came since a moment (ms) name no prediction of the log, and which are new."""
    environment, name = call.path["environment"], call.path["name"]
    endpoint = await call.yard.store.read(lambda conn: records.get_endpoint(conn, environment, name))
    declared = call.yard.project.models.get(endpoint.model)
    model_file, task = await _model_file(call), declared.task if declared and declared.task else ""
    try:
        return await measuring.look_at_labels(
            call.yard.home, environment, name, model_file, call.number("since", 0), task
        )
    except measuring.Unmeasured as error:
        raise _unreadable(error) from error


async def list_predictions(call: Call) -> Any:
    """Logged predictions as JSON Lines, oldest first: inputs, answer, version, latency, label. since: in ms."""
    environment, name, home = call.path["environment"], call.path["name"], call.yard.home
    since, most = call.number("since", 0), call.number("limit", 0)
    model_file = await _model_file(call)
    identity = call.query.get("id", "")
    pieces = measuring.list_predictions(home, environment, name, model_file, since, most, identity)
    try:
        first = await anext(pieces, b"")
    except measuring.Unmeasured as error:
        raise _unreadable(error) from error
    return StreamingResponse(chained(first, pieces), media_type="application/jsonl")


async def _model_file(call: Call) -> Path:
    """The description of the model that an endpoint's log is read by. Raises Conflict."""
    environment, name = call.path["environment"], call.path["name"]

    def served(conn: Connection) -> str:
        endpoint = records.get_endpoint(conn, environment, name)
        newest = endpoint.live or endpoint.previous
        if newest is None:
            raise Conflict(f"Nothing was served at {environment}/{name} yet.", remedy="See: modelyard endpoints")
        return records.get(conn, newest).digest

    return places.models(call.yard.home, environment) / await call.yard.store.read(served) / "MLmodel"


def _unreadable(error: measuring.Unmeasured) -> Unavailable:
    return Unavailable(f"The prediction log cannot be read: {error}.", remedy="Retry; see the yard's disk.")


E, ONE = "environment", "/api/v1/environments/{environment}/endpoints/{name}"
DEPLOY, ROLLBACK = Permission.DEPLOYMENTS_DEPLOY, Permission.DEPLOYMENTS_ROLLBACK
ROUTES = [
    Route("GET", "/api/v1/endpoints", Permission.DEPLOYMENTS_READ, list_endpoints),
    Route("GET", ONE, Permission.DEPLOYMENTS_READ, get_endpoint, environment=E),
    Route(
        "POST", "/api/v1/environments/{environment}/deployments", DEPLOY, deploy, body=NewDeployment, environment=E
    ),
    Route("PUT", ONE, DEPLOY, declare, body=Declared, environment=E),
    Route("DELETE", ONE, DEPLOY, remove, body=Reason, environment=E),
    Route("POST", ONE + "/rollback", ROLLBACK, rollback, body=Back, environment=E),
    Route("POST", ONE + "/rollout/{action}", ROLLBACK, steer, body=Reason, environment=E),
    Route("GET", ONE + "/predictions", Permission.PREDICTIONS_READ, list_predictions, environment=E),
    Route("GET", ONE + "/ground-truth", Permission.PREDICTIONS_LABEL, look_at_ground_truth, environment=E),
    Route(
        "POST",
        ONE + "/ground-truth",
        Permission.PREDICTIONS_LABEL,
        add_ground_truth,
        body=Labels,
        environment=E,
        max_body=ground_truth.MOST_BYTES,
    ),
]
