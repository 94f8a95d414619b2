"""Alerts: what changed, since when, because of what, and a person's answer."""

from base64 import b64encode
from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from modelyard.deliver.monitoring import records
from modelyard.domain.errors import Invalid, ModelyardError
from modelyard.domain.permissions import Permission
from modelyard.events import log
from modelyard.server.api import monitors as api
from modelyard.server.pages import forms, render, wording
from modelyard.server.pages.endpoints import drifted, picture
from modelyard.server.routes import Call, Route

NAMESPACE = 'xmlns="http://www.w3.org/2000/svg"'
ANSWERED = {"acknowledge": "acknowledged", "resolve": "resolved", "mute": "muted"}


async def list_alerts(call: Call) -> Response:
    every = call.query.get("all") == "true"
    return render.page(call, "alerts.html", every=every, **await api.list_alerts(call))


async def show(call: Call, failure: ModelyardError | None = None) -> Response:
    alert: dict[str, Any] = await api.get_alert(call)
    detail: dict[str, Any] = alert["detail"]

    def work(conn: Connection) -> tuple[list[Any], list[dict[str, Any]]]:
        chain: list[Any] = []
        if alert["event_id"] and call.principal.may(Permission.AUDIT_READ):
            chain = [*log.causes(conn, alert["event_id"]), *log.consequences(conn, alert["event_id"])]
        return chain, records.results(conn, alert["environment"], alert["endpoint"], alert["kind"], 40)

    chain, results = await call.yard.store.read(work)
    columns: list[dict[str, Any]] = [column for column in detail.get("columns", []) if "effect" in column]
    shown, caption = (
        (drifted(columns), "Each column's effect beside its threshold (dashed); red is beyond it.")
        if columns
        else picture(alert["kind"], results)
    )
    facts = [(key, value) for key, value in detail.items() if isinstance(value, int | float | str)]
    context: dict[str, Any] = {"columns": columns, "picture": shown, "caption": caption, "facts": facts}
    context["findings"] = detail.get("data_quality", [])
    context["drawings"] = _drawings(alert["explanation"]["pictures"])
    status, here = failure.status if failure else 200, wording.at("alerts", alert["id"])
    return render.page(call, "alert.html", status=status, a=alert, chain=chain, failure=failure, here=here, **context)


def _drawings(pictures: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, address) of the pictures that a monitor drew: as images, in which a browser runs nothing."""
    drawn = [(name, text) for name, text in pictures.items() if isinstance(text, str) and text.startswith("<svg")]
    whole = [
        (name, text if "xmlns" in text else text.replace("<svg", f"<svg {NAMESPACE}", 1)) for name, text in drawn
    ]
    return [(name, "data:image/svg+xml;base64," + b64encode(text.encode()).decode()) for name, text in whole]


async def answer(call: Call) -> Response:
    done = ANSWERED.get(call.path["action"])
    if done is None:
        raise Invalid(f"{call.path['action'][:40]!r} is not known.", remedy=f"One of {', '.join(ANSWERED)}.")
    body = api.Note(forms.field(call, "reason"))
    return await forms.act(call, api.answer_alert, body, wording.at("alerts", call.path["id"]), done, show)


R, W = Permission.MONITORS_READ, Permission.MONITORS_WRITE
ROUTES = [
    Route("GET", "/alerts", R, list_alerts),
    Route("GET", "/alerts/{id}", R, show),
    Route("POST", "/alerts/{id}/{action}", W, answer, form=True, max_body=65_536),
]
