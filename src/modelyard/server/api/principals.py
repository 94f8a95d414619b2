"""People, services and their tokens."""

from typing import Any

import msgspec

from modelyard.domain.errors import Forbidden
from modelyard.domain.permissions import Permission, Principal
from modelyard.domain.project import seconds
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
    expires: str | None = None
    """A duration such as `30d`; without it the token holds until it is revoked."""


def _shown(principal: Principal) -> dict[str, Any]:
    return {
        "name": principal.name,
        "kind": principal.kind,
        "roles": sorted(principal.roles),
        "behind": principal.behind,
    }


async def list_principals(call: Call) -> Any:
    active = [_shown(item) | {"disabled": False} for item in await call.yard.store.read(principals.every)]
    gone = [_shown(item) | {"disabled": True} for item in await call.yard.store.read(principals.disabled)]
    return {"principals": sorted(active + gone, key=lambda item: item["name"]), "next": None}


async def create_principal(call: Call) -> Any:
    body: NewPrincipal = call.body
    actor = call.principal.name
    made = await call.yard.store.write(
        lambda conn: principals.create(conn, body.name, body.kind, body.roles, actor=actor, behind=body.behind)
    )
    return _shown(made)


async def set_roles(call: Call) -> Any:
    body: Roles = call.body
    name, actor = call.path["name"], call.principal.name
    changed = await call.yard.store.write(lambda conn: principals.set_roles(conn, name, body.roles, actor=actor))
    call.request.app.authenticator.forget()
    return _shown(changed)


async def disable(call: Call) -> Any:
    """Stop a principal: its tokens are revoked, it may do nothing any more."""
    name, actor = call.path["name"], call.principal.name
    revoked = await call.yard.store.write(lambda conn: principals.disable(conn, name, actor=actor))
    call.request.app.authenticator.forget()
    return {"disabled": name, "tokens_revoked": len(revoked)}


async def enable(call: Call) -> Any:
    name, actor = call.path["name"], call.principal.name
    return _shown(await call.yard.store.write(lambda conn: principals.enable(conn, name, actor=actor)))


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
    lifetime = None if body.expires is None else int(seconds(body.expires) * 1000)
    secret = await call.yard.store.write(
        lambda conn: tokens.issue(conn, name, actor=actor.name, label=body.label, lifetime_ms=lifetime)
    )
    return {"principal": name, "token": secret}


async def create_sign_in(call: Call) -> Any:
    """A one-time secret with which this principal's browser signs in to the console."""
    name = call.principal.name
    secret = await call.yard.store.write(lambda conn: tokens.issue(conn, name, tokens.ONE_TIME, actor=name))
    return {"path": f"/sign-in?token={secret}"}


async def revoke_token(call: Call) -> Any:
    token_id, actor = call.path["id"], call.principal
    held = {token.id: token.principal for token in await call.yard.store.read(tokens.every)}
    if not actor.may(Permission.PRINCIPALS_WRITE) and held.get(token_id) != actor.name:
        raise Forbidden(f"You hold no token {token_id!r}.", remedy="List yours: modelyard token")
    await call.yard.store.write(lambda conn: tokens.revoke(conn, token_id, actor=actor.name))
    call.request.app.authenticator.forget()
    return {"revoked": token_id}


ROUTES = [
    Route("GET", "/api/v1/principals", Permission.PRINCIPALS_READ, list_principals),
    Route("POST", "/api/v1/principals", Permission.PRINCIPALS_WRITE, create_principal, body=NewPrincipal),
    Route("PUT", "/api/v1/principals/{name}/roles", Permission.PRINCIPALS_WRITE, set_roles, body=Roles),
    Route("DELETE", "/api/v1/principals/{name}", Permission.PRINCIPALS_WRITE, disable),
    Route("POST", "/api/v1/principals/{name}/enable", Permission.PRINCIPALS_WRITE, enable),
    Route("GET", "/api/v1/tokens", Permission.SIGNED_IN, list_tokens),
    Route("POST", "/api/v1/tokens", Permission.SIGNED_IN, create_token, body=NewToken),
    Route("DELETE", "/api/v1/tokens/{id}", Permission.SIGNED_IN, revoke_token),
    Route("POST", "/api/v1/sign-in", Permission.SIGNED_IN, create_sign_in),
]
