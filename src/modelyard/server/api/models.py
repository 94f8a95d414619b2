"""Registered models and versions: register, show, compare, decide."""

from typing import Any
from urllib.parse import quote

import msgspec
from sqlalchemy import Connection
from starlette.responses import Response

from modelyard.domain.errors import Invalid
from modelyard.domain.permissions import Permission
from modelyard.registry import approvals, card_page, cards, comparison, evidence, gates, lineage, models, versions
from modelyard.registry.versions import Version
from modelyard.server.pairing import paired
from modelyard.server.registration import register
from modelyard.server.routes import Call, Route


class NewVersion(msgspec.Struct, forbid_unknown_fields=True):
    source: str
    run_id: str | None = None
    model_id: str | None = None
    pipeline_run_id: str | None = None
    evaluation: dict[str, Any] | None = None
    lineage: dict[str, Any] = {}
    description: str = ""
    tags: dict[str, str] = {}
    cause: str | None = None


class NewEvidence(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    content: dict[str, Any]


class Verdict(msgspec.Struct, forbid_unknown_fields=True):
    environment: str
    verdict: str
    comment: str


class Alias(msgspec.Struct, forbid_unknown_fields=True):
    version: int | None


def summary(conn: Connection, version: Version) -> dict[str, Any]:
    """A version as lists show it: with its metrics, gates and standing."""
    content = evidence.evaluation(conn, version.model, version.version) or {}
    verdict = gates.newest(conn, version.model, version.version)
    return {
        "model": version.model,
        "version": version.version,
        "digest": version.digest,
        "aliases": version.aliases,
        "states": dict(version.states),
        "metrics": content.get("metrics", {}),
        "gates": None if verdict is None else verdict["passed"],
        "registrar": version.registrar,
        "run_id": version.run_id,
        "model_id": version.model_id,
        "created_at": version.created_at,
    }


async def list_models(call: Call) -> Any:
    """Registered models; with `?kind=prompt` the prompts instead."""
    prompts = call.query.get("kind") == "prompt"

    def work(conn: Connection) -> list[dict[str, Any]]:
        return [
            {**model.__dict__, "aliases": versions.aliases_of(conn, model.name), "versions": len(held)}
            for model in models.every(conn, prompts=prompts)
            for held in [versions.of_model(conn, model.name)]
        ]

    return {"models": await call.yard.store.read(work), "next": None}


async def list_versions(call: Call) -> Any:
    name = call.path["name"]

    def work(conn: Connection) -> list[dict[str, Any]]:
        models.get(conn, name)
        return [summary(conn, version) for version in versions.of_model(conn, name)]

    return {"versions": await call.yard.store.read(work), "next": None}


async def create_version(call: Call) -> Any:
    """Register a version with its evaluation in one transaction; the model line is made when there is none."""
    name, body, actor = call.path["name"], call.body, call.principal

    def work(conn: Connection) -> dict[str, Any]:
        if models.find(conn, name) is None:
            models.create(conn, name, actor=actor.name)
        made = register(
            conn,
            name,
            body.source,
            actor=actor,
            run_id=body.run_id,
            model_id=body.model_id,
            pipeline_run_id=body.pipeline_run_id,
            lineage=body.lineage,
            description=body.description,
            tags=body.tags,
            cause=body.cause,
        )
        if body.evaluation is not None:
            evidence.attach(conn, name, made.version, evidence.EVALUATION, body.evaluation, actor=actor.name)
        return summary(conn, made)

    return await call.yard.store.write(work)


async def get_version(call: Call) -> Any:
    """Everything about a version: evidence, gates, approvals, files, lineage. `{version}` may be an alias."""
    name, reference = call.path["name"], call.path["version"]

    def work(conn: Connection) -> dict[str, Any]:
        version = versions.resolve(conn, name, reference)
        return {
            **summary(conn, version),
            "author": version.author,
            "source": version.source,
            "pipeline_run_id": version.pipeline_run_id,
            "description": version.description,
            "tags": version.tags,
            "lineage": version.lineage,
            "files": versions.files(conn, name, version.version),
            "evidence": evidence.of_version(conn, name, version.version),
            "verdict": gates.newest(conn, name, version.version),
            "approvals": approvals.find(conn, name, version.version),
        }

    return await call.yard.store.read(work)


async def attach_evidence(call: Call) -> Any:
    name, number, body = call.path["name"], version_number(call), call.body
    actor = call.principal.name
    event = await call.yard.store.write(
        lambda conn: evidence.attach(conn, name, number, body.kind, body.content, actor=actor)
    )
    return {"attached": event is not None}


async def decide(call: Call) -> Any:
    name, number, body = call.path["name"], version_number(call), call.body
    call.require(Permission.VERSIONS_DECIDE, body.environment)
    project, principal = call.yard.project, call.principal
    return await call.yard.store.write(
        lambda conn: approvals.decide(
            conn, project, name, number, body.environment, body.verdict, body.comment, principal
        )
    )


async def list_approvals(call: Call) -> Any:
    return {"approvals": await call.yard.store.read(approvals.find), "next": None}


async def compare(call: Call) -> Any:
    """Versions side by side: query `versions=3,4,champion`."""
    name = call.path["name"]
    references = [item for item in call.query.get("versions", "").split(",") if item]
    found = await call.yard.store.read(lambda conn: comparison.sides(conn, name, references))
    declared = call.yard.project.models.get(name)
    primary = declared.primary_metric if declared else ""
    return comparison.compare(found, primary, await paired(call.yard, found))


async def card(call: Call) -> Any:
    name, reference = call.path["name"], call.path["version"]
    return await call.yard.store.read(lambda conn: cards.card(conn, versions.resolve(conn, name, reference)))


async def lineage_graph(call: Call) -> Any:
    name, reference = call.path["name"], call.path["version"]
    return await call.yard.store.read(lambda conn: lineage.graph(conn, versions.resolve(conn, name, reference)))


async def card_file(call: Call) -> Any:
    """The card as one HTML file, to be saved."""
    name, reference = call.path["name"], call.path["version"]

    def work(conn: Connection) -> tuple[Version, dict[str, Any], dict[str, Any]]:
        version = versions.resolve(conn, name, reference)
        return version, cards.card(conn, version), lineage.graph(conn, version)

    version, shown, graph = await call.yard.store.read(work)
    return _saved(version, "card", card_page.page(shown, graph))


async def lineage_file(call: Call) -> Any:
    """The lineage graph as one HTML file, to be saved."""
    name, reference = call.path["name"], call.path["version"]

    def work(conn: Connection) -> tuple[Version, dict[str, Any]]:
        version = versions.resolve(conn, name, reference)
        return version, lineage.graph(conn, version)

    version, graph = await call.yard.store.read(work)
    return _saved(version, "lineage", card_page.lineage_page(f"{version.model} v{version.version}", graph))


def _saved(version: Version, what: str, page: str) -> Response:
    file = quote(f"{version.model}-{version.version}-{what}.html")
    headers = {"content-disposition": f"attachment; filename*=utf-8''{file}"}
    return Response(page, media_type="text/html", headers=headers)


async def set_alias(call: Call) -> Any:
    name, alias, number = call.path["name"], call.path["alias"], call.body.version
    actor = call.principal.name
    await call.yard.store.write(lambda conn: versions.set_alias(conn, name, alias, number, actor=actor))
    return {"alias": alias, "version": number}


def version_number(call: Call) -> int:
    text = call.path["version"]
    if not text.isdigit():
        raise Invalid(f"{text!r} is not a version number.", remedy="Name the version by its number.")
    return int(text)


R, W = Permission.VERSIONS_READ, Permission.VERSIONS_REGISTER
VERSION = "/api/v1/models/{name}/versions/{version}"
ROUTES = [
    Route("GET", "/api/v1/models", R, list_models),
    Route("GET", "/api/v1/models/{name}/versions", R, list_versions),
    Route("POST", "/api/v1/models/{name}/versions", W, create_version, body=NewVersion, max_body=32 << 20),
    Route("GET", VERSION, R, get_version),
    Route("POST", VERSION + "/evidence", W, attach_evidence, body=NewEvidence, max_body=32 << 20),
    Route("POST", VERSION + "/decisions", Permission.VERSIONS_DECIDE, decide, body=Verdict),
    Route("GET", VERSION + "/card", R, card, summary="a model card draft"),
    Route("GET", VERSION + "/card.html", R, card_file, summary="the model card as one HTML file"),
    Route("GET", VERSION + "/lineage", R, lineage_graph, summary="nodes and edges from data to deployments"),
    Route("GET", VERSION + "/lineage.html", R, lineage_file, summary="the lineage graph as one HTML file"),
    Route("GET", "/api/v1/models/{name}/compare", R, compare),
    Route("PUT", "/api/v1/models/{name}/aliases/{alias}", W, set_alias, body=Alias),
    Route("GET", "/api/v1/approvals", R, list_approvals),
]
