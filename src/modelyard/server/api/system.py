"""Health, who am I, the OpenAPI document."""

from typing import Any

import msgspec
from sqlalchemy import text
from starlette.responses import Response

from modelyard import __version__
from modelyard.domain.permissions import Permission
from modelyard.server import openapi
from modelyard.server.routes import Call, Route


class Me(msgspec.Struct):
    name: str
    kind: str
    roles: list[str]


async def live(call: Call) -> Any:
    return Response("OK", media_type="text/plain")


async def ready(call: Call) -> Any:
    await call.yard.store.read(lambda conn: conn.execute(text("SELECT 1")).scalar())
    return {"ready": True, "version": __version__}


async def me(call: Call) -> Me:
    return Me(call.principal.name, call.principal.kind, sorted(call.principal.roles))


async def project(call: Call) -> Any:
    """The declared project, without the addresses of its notification channels, which hold secrets."""
    declared = msgspec.to_builtins(call.yard.project)
    return {**declared, "notify": sorted(call.yard.project.notify), "folder": str(call.yard.project_dir)}


async def describe(call: Call) -> Any:
    return openapi.document(call.request.app.table.routes)


ROUTES = [
    Route("GET", "/health", Permission.PUBLIC, live, summary="alive"),
    Route("GET", "/ready", Permission.PUBLIC, ready, summary="the database answers"),
    Route("GET", "/api/v1/me", Permission.SIGNED_IN, me, answer=Me, summary="who the token stands for"),
    Route("GET", "/api/v1/project", Permission.VERSIONS_READ, project, summary="the declared project"),
    Route("GET", "/api/v1/openapi.json", Permission.PUBLIC, describe, summary="this document"),
]
