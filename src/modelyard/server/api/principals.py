"""People, services and their tokens."""

from typing import Any

import msgspec

from modelyard.domain.errors import Forbidden
from modelyard.domain.permissions import Permission, Principal, Role
from modelyard.governance import principals, tokens
from modelyard.server.routes import Call, Route


class NewPrincipal(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    roles: list[str]
    kind: str = "person"
    behind: str | None = None


class Roles(msgspec.Struct, forbid_unknown_fields=True):
    roles: list[str]


class NewToken(msgspec.Struct, forbid_unknown_fields=True):
    principal: str | None = None
    label: str = ""


def _shown(principal: Principal) -> dict[str, Any]:
    return {
        "name": principal.name,
        "kind": principal.kind,
        "roles": sorted(principal.roles),
        "behind": principal.behind,
    }


def _may_grant(actor: Principal, roles: list[str]) -> None:
    if Role.ADMIN in roles and Role.ADMIN not in actor.roles:
        raise Forbidden("Only an admin makes an admin.", remedy="Ask an admin of this yard.")


async def list_principals(call: Call) -> Any:
    found = await call.yard.store.read(principals.every)
    return {"principals": [_shown(principal) for principal in found], "next": None}


async def create_principal(call: Call) -> Any:
    body: NewPrincipal = call.body
    _may_grant(call.principal, body.roles)
    actor = call.principal.name
    made = await call.yard.store.write(
        lambda conn: principals.create(conn, body.name, body.kind, body.roles, actor=actor, behind=body.behind)
    )
    return _shown(made)


async def set_roles(call: Call) -> Any:
    body: Roles = call.body
    _may_grant(call.principal, body.roles)
    name, actor = call.path["name"], call.principal.name
    return _shown(await call.yard.store.write(lambda conn: principals.set_roles(conn, name, body.roles, actor=actor)))


async def list_tokens(call: Call) -> Any:
    found = await call.yard.store.read(tokens.every)
    if not call.principal.may(Permission.PRINCIPALS_READ):
        found = [token for token in found if token.principal == call.principal.name]
    return {"tokens": found, "next": None}


async def create_token(call: Call) -> Any:
    """A token for oneself, or for another principal by those who manage principals."""
    body: NewToken = call.body
    actor = call.principal
    name = body.principal or actor.name
    if name != actor.name:
        call.require(Permission.PRINCIPALS_WRITE)
        target = await call.yard.store.read(lambda conn: principals.get(conn, name))
        _may_grant(actor, list(target.roles))
    secret = await call.yard.store.write(lambda conn: tokens.issue(conn, name, actor=actor.name, label=body.label))
    return {"principal": name, "token": secret}


async def create_sign_in(call: Call) -> Any:
    """A one-time secret with which this principal's browser signs in to the console."""
    name = call.principal.name
    secret = await call.yard.store.write(lambda conn: tokens.issue(conn, name, tokens.ONE_TIME, actor=name))
    return {"path": f"/sign-in?token={secret}"}


async def revoke_token(call: Call) -> Any:
    token_id, actor = call.path["id"], call.principal
    held = {token.id: token.principal for token in await call.yard.store.read(tokens.every)}
    if held.get(token_id) != actor.name:
        call.require(Permission.PRINCIPALS_WRITE)
    await call.yard.store.write(lambda conn: tokens.revoke(conn, token_id, actor=actor.name))
    call.request.app.authenticator.forget()
    return {"revoked": token_id}


ROUTES = [
    Route("GET", "/api/v1/principals", Permission.PRINCIPALS_READ, list_principals),
    Route("POST", "/api/v1/principals", Permission.PRINCIPALS_WRITE, create_principal, body=NewPrincipal),
    Route("PUT", "/api/v1/principals/{name}/roles", Permission.PRINCIPALS_WRITE, set_roles, body=Roles),
    Route("GET", "/api/v1/tokens", Permission.SIGNED_IN, list_tokens),
    Route("POST", "/api/v1/tokens", Permission.SIGNED_IN, create_token, body=NewToken),
    Route("DELETE", "/api/v1/tokens/{id}", Permission.SIGNED_IN, revoke_token),
    Route("POST", "/api/v1/sign-in", Permission.SIGNED_IN, create_sign_in),
]
