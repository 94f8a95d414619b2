"""People, services and tokens, for those who manage them."""

from dataclasses import replace

from starlette.responses import Response

from modelyard.domain.errors import ModelyardError
from modelyard.domain.permissions import Permission, Role
from modelyard.server.api import principals as api
from modelyard.server.pages import forms, render
from modelyard.server.routes import Call, Route

HERE = "/principals"


async def show(call: Call, failure: ModelyardError | None = None, secret: dict[str, str] | None = None) -> Response:
    found = (await api.list_principals(call))["principals"]
    tokens = (await api.list_tokens(call))["tokens"]
    context = {"principals": found, "tokens": tokens, "roles": sorted(Role), "secret": secret, "failure": failure}
    return render.page(call, "principals.html", status=failure.status if failure else 200, **context)


async def create(call: Call) -> Response:
    roles, behind = forms.ticked(call, "role:"), forms.field(call, "behind") or None
    kind = "service" if forms.field(call, "kind") == "service" else "person"
    body = api.NewPrincipal(forms.field(call, "name"), roles, kind, behind)
    return await forms.act(call, api.create_principal, body, HERE, "added", show)


async def set_roles(call: Call) -> Response:
    return await forms.act(call, api.set_roles, api.Roles(forms.ticked(call, "role:")), HERE, "changed", show)


async def issue(call: Call) -> Response:
    """The one answer that holds a secret; it is not stored, and no address leads to it again."""
    body = api.NewToken(
        forms.field(call, "principal") or None, forms.field(call, "label"), forms.field(call, "expires") or None
    )
    try:
        made = await api.create_token(replace(call, body=body))
    except ModelyardError as error:
        return await show(call, error)
    return await show(call, None, made)


async def revoke(call: Call) -> Response:
    return await forms.act(call, api.revoke_token, None, HERE, "revoked", show)


R, W = Permission.PRINCIPALS_READ, Permission.PRINCIPALS_WRITE
ROUTES = [
    Route("GET", HERE, R, show),
    Route("POST", HERE, W, create, form=True, max_body=65_536),
    Route("POST", HERE + "/{name}/roles", W, set_roles, form=True, max_body=65_536),
    Route("POST", HERE + "/tokens", R, issue, form=True, max_body=65_536),
    Route("POST", HERE + "/tokens/{id}/revoke", R, revoke, form=True, max_body=8192),
]
