"""Signing in by a one-time URL or a pasted token, and signing out."""

from starlette.responses import RedirectResponse, Response

from modelyard.domain.errors import Unauthenticated
from modelyard.domain.permissions import Permission
from modelyard.governance import tokens
from modelyard.server.guard import COOKIE, secret_in
from modelyard.server.pages import render
from modelyard.server.routes import Call, Route


def _local(path: str) -> str:
    """`path` when it is one of this site's pages, or else the first page: no link leads away after signing in."""
    inside = path.startswith("/") and not path.startswith(("//", "/\\", "/sign-")) and path.isprintable()
    return path if inside else "/"


async def show(call: Call) -> Response:
    """The form; or, with a one-time token in the address, the session that it stands for.

    A link on another site only leads to the form, with the token filled in: nobody is signed in as somebody else
    by following a link. Neither is a token used up by a HEAD request.
    """
    secret, goal = call.query.get("token", ""), _local(call.query.get("next", "/"))
    site = call.request.headers.get("sec-fetch-site", "none")
    if secret and call.request.method == "GET" and site in ("none", "same-origin"):
        return await _open(call, secret, goal)
    return render.page(call, "sign_in.html", token=secret, goal=goal, error=None)


async def sign_in(call: Call) -> Response:
    secret, goal = call.body.get("token", "").strip(), _local(call.body.get("next", "/"))
    return await _open(call, secret, goal)


async def _open(call: Call, secret: str, goal: str) -> Response:
    opened = await call.yard.store.write(lambda conn: tokens.open_session(conn, secret)) if secret else None
    if opened is None:
        error = Unauthenticated(
            "This token is unknown, expired or was used already.",
            remedy="Get a new sign-in URL: modelyard token sign-in",
        )
        return render.page(call, "sign_in.html", status=401, token="", goal=goal, error=error)
    answer = RedirectResponse(goal, status_code=303, headers={"Cache-Control": "no-store"})
    answer.set_cookie(
        COOKIE,
        opened,
        max_age=tokens.SESSION_S,
        httponly=True,
        samesite="lax",
        secure=call.request.url.scheme == "https",
    )
    return answer


async def sign_out(call: Call) -> Response:
    """End the session for good, not only in this browser."""
    secret = secret_in(call.request.headers) or ""
    await call.yard.store.write(lambda conn: tokens.close_session(conn, secret))
    call.request.app.authenticator.forget()
    answer = RedirectResponse("/sign-in", status_code=303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="lax")
    return answer


ROUTES = [
    Route("GET", "/sign-in", Permission.PUBLIC, show, summary="the sign-in form, or a one-time sign-in"),
    Route("POST", "/sign-in", Permission.PUBLIC, sign_in, form=True, max_body=8192),
    Route("POST", "/sign-out", Permission.SIGNED_IN, sign_out, form=True, max_body=8192),
]
