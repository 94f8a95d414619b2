"""Templates to pages: one environment, escaping on, and what every page shows around its content."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from starlette.responses import HTMLResponse, RedirectResponse, Response

from modelyard.domain.errors import ModelyardError, Unauthenticated
from modelyard.domain.permissions import Permission, Principal
from modelyard.server.pages import assets, wording
from modelyard.server.routes import Call

if TYPE_CHECKING:
    from jinja2 import Environment

P = Permission
NAVIGATION = (
    ("Experiments", "/experiments", P.RUNS_READ),
    ("Pipelines", "/pipelines", P.PIPELINES_READ),
    ("Models", "/models", P.VERSIONS_READ),
    ("Endpoints", "/endpoints", P.DEPLOYMENTS_READ),
    ("Alerts", "/alerts", P.MONITORS_READ),
    ("Events", "/events", P.AUDIT_READ),
    ("People", "/principals", P.PRINCIPALS_READ),
)
DONE = {
    "approved": "Your approval is recorded.",
    "rejected": "Your rejection is recorded.",
    "rolled-back": "Traffic goes to the previous deployment.",
    "paused": "The rollout is paused.",
    "resumed": "The rollout goes on.",
    "promoted": "All traffic goes to the new deployment.",
    "aborted": "The rollout is aborted; traffic stays where it was.",
    "acknowledged": "The alert is yours.",
    "resolved": "The alert is resolved.",
    "muted": "The alert is muted.",
    "rebased": "The next whole window is what later ones are compared with.",
    "added": "Added.",
    "changed": "The roles are changed.",
    "revoked": "The token holds no longer.",
    "deployed": "The rollout begins.",
    "alias": "The alias is set.",
    "started": "The pipeline is asked to start.",
    "schedule-paused": "It is not started by itself any more.",
    "schedule-resumed": "It is started by itself again.",
    "cancelled": "It is being stopped.",
}
"""What a page says after an act; the address carries the key only, so that no link can put words in our mouth."""


@cache
def environment() -> "Environment":
    """The template environment. Raises UndefinedError (in tests and pages alike) for a name that is not given."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # late: the server starts without it

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("age", "clock", "duration", "exact", "number", "signed", "percent", "size", "tone", "subject"):
        made.filters[name] = getattr(wording, name)
    shared: dict[str, Any] = {"asset": assets.url, "at": wording.at, "with_query": wording.with_query}
    cast("dict[str, Any]", made.globals).update(shared)
    return made


def page(call: Call, template: str, /, status: int = 200, **context: Any) -> Response:
    """A page for the principal of the call."""
    path = call.request.url.path
    around = {
        **_frame(call.principal, path),
        "project": call.yard.project.project.name,
        "done": DONE.get(call.query.get("done", "")),
        "failure": None,
    }
    text = environment().get_template(template).render({**around, **context})
    return HTMLResponse(text, status_code=status, headers={"Cache-Control": "no-store"})


def _frame(principal: Principal | None, path: str) -> dict[str, Any]:
    def may(permission: str, place: str | None = None) -> bool:
        return principal is not None and principal.may(Permission(permission), place)

    shown = [(label, link) for label, link, permission in NAVIGATION if may(permission)]
    section = "/experiments" if path.startswith(("/runs/", "/compare")) else path
    section = "/pipelines" if path.startswith("/schedules/") else section
    return {"me": principal, "may": may, "navigation": shown, "here": path, "section": section}


def back(path: str, done: str) -> Response:
    """After an act: to the page where it shows, with a word of confirmation."""
    return RedirectResponse(wording.with_query(path, done=done), status_code=303)


def wants_page(path: str, headers: Mapping[str, str]) -> bool:
    """Whether an answer to this request is for a person's eyes."""
    return "text/html" in headers.get("accept", "") and not path.startswith(("/api/", "/ajax-api/"))


def failure(error: ModelyardError, path: str, headers: Mapping[str, str], principal: Principal | None) -> Response:
    """An error as a page that says what to do; the way to sign in for somebody who is not."""
    if isinstance(error, Unauthenticated):
        sign_in = f"/sign-in?next={quote(path, safe='/')}" if path != "/" else "/sign-in"
        if headers.get("hx-request"):
            return Response(status_code=401, headers={"HX-Redirect": sign_in})
        return RedirectResponse(sign_in, status_code=303)
    context = {**_frame(principal, path), "error": error, "project": "", "done": None, "failure": None}
    template = "problem_part.html" if headers.get("hx-request") else "problem.html"
    text = environment().get_template(template).render(context)
    return HTMLResponse(text, status_code=error.status, headers={"Cache-Control": "no-store"})
