"""Approvals out of the ordinary: breaking the glass, and an approver's word in advance."""

from typing import Any

import msgspec

from modelyard.domain.permissions import Permission
from modelyard.domain.project import seconds
from modelyard.registry import break_glass, standing
from modelyard.server.api.models import version_number
from modelyard.server.routes import Call, Route


class BrokenGlass(msgspec.Struct, forbid_unknown_fields=True):
    environment: str
    reason: str


class NewStandingPolicy(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    environment: str
    comment: str
    expires: str = "30d"


async def break_the_glass(call: Call) -> Any:
    """Approve a version against the ordinary rules, until the policy's end; the approvers are told."""
    name, number, body = call.path["name"], version_number(call), call.body
    project, principal = call.yard.project, call.principal
    return await call.yard.store.write(
        lambda conn: break_glass.break_glass(conn, project, name, number, body.environment, body.reason, principal)
    )


async def list_standing(call: Call) -> Any:
    return {"standing_policies": await call.yard.store.read(standing.every), "next": None}


async def sign_standing(call: Call) -> Any:
    """Approve in advance what an automatic retrain registers, as long as the model's gates stay as they are."""
    body: NewStandingPolicy = call.body
    call.require(Permission.VERSIONS_DECIDE, body.environment)
    project, principal, lifetime = call.yard.project, call.principal, int(seconds(body.expires) * 1000)
    return await call.yard.store.write(
        lambda conn: standing.sign(conn, project, body.model, body.environment, body.comment, lifetime, principal)
    )


async def revoke_standing(call: Call) -> Any:
    policy_id, actor = call.path["id"], call.principal.name
    await call.yard.store.write(lambda conn: standing.revoke(conn, policy_id, actor=actor))
    return {"revoked": policy_id}


DECIDE = Permission.VERSIONS_DECIDE
GLASS = "/api/v1/models/{name}/versions/{version}/break-glass"
ROUTES = [
    Route("POST", GLASS, Permission.DEPLOYMENTS_ROLLBACK, break_the_glass, body=BrokenGlass),
    Route("GET", "/api/v1/standing-policies", Permission.VERSIONS_READ, list_standing),
    Route("POST", "/api/v1/standing-policies", DECIDE, sign_standing, body=NewStandingPolicy),
    Route("DELETE", "/api/v1/standing-policies/{id}", DECIDE, revoke_standing),
]
