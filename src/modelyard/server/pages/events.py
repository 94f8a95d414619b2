"""The event log, one event with its chain of causes, and the verification of the whole."""

import json
from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from modelyard.domain.permissions import Permission
from modelyard.events import log
from modelyard.events.catalogue import CATALOGUE
from modelyard.server.api import events as api
from modelyard.server.pages import render
from modelyard.server.routes import Call, Route

PAGE = 100


async def list_events(call: Call) -> Response:
    kind, subject = call.query.get("types", ""), call.query.get("subject", "").strip()
    text = call.query.get("before", "")
    before = int(text) if text.isdigit() and len(text) < 18 else None

    def work(conn: Connection) -> list[log.Event]:
        types = [kind] if kind in CATALOGUE else []
        return log.read(conn, 0, types, subject or None, PAGE, newest_first=True, before=before)

    found = await call.yard.store.read(work)
    older = found[-1].seq if len(found) == PAGE else None
    context: dict[str, Any] = {"events": found, "older": older, "catalogue": sorted(CATALOGUE), "types": kind}
    return render.page(call, "events.html", subject_filter=subject, **context)


async def show(call: Call) -> Response:
    found = await api.chain(call)
    event: log.Event = found["event"]
    data = json.dumps(event.data, indent=2, ensure_ascii=False)
    return render.page(call, "event.html", data=data, meaning=CATALOGUE.get(event.type, ""), **found)


async def verify(call: Call) -> Response:
    return render.page(call, "verification.html", **await api.verify(call))


R = Permission.AUDIT_READ
ROUTES = [
    Route("GET", "/events", R, list_events),
    Route("GET", "/events/verification", R, verify),
    Route("GET", "/events/{id}", R, show),
]
