"""The event log: list, chain of causes, verification, export."""

from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import Connection
from starlette.responses import StreamingResponse

from modelyard.domain.errors import NotFound
from modelyard.domain.permissions import Permission
from modelyard.events import audit, log
from modelyard.server.routes import Call, Route

MOST = 1000


async def list_events(call: Call) -> Any:
    """Events after a sequence number; of some types; about a subject."""
    after, limit = call.number("after", 0), call.number("limit", 100, MOST)
    types = [name for name in call.query.get("types", "").split(",") if name]
    subject, newest = call.query.get("subject"), call.query.get("newest") == "true"
    found = await call.yard.store.read(lambda conn: log.read(conn, after, types, subject, limit, newest))
    more = str(found[-1].seq) if len(found) == limit and not newest else None
    return {"events": found, "next": more}


async def chain(call: Call) -> Any:
    """What led to an event, the event, and what it led to."""
    event_id = call.path["id"]

    def work(conn: Connection) -> dict[str, Any]:
        causes = log.causes(conn, event_id)
        if not causes:
            raise NotFound(f"There is no event {event_id!r}.")
        return {"causes": causes[:-1], "event": causes[-1], "consequences": log.consequences(conn, event_id)}

    return await call.yard.store.read(work)


async def verify(call: Call) -> Any:
    found = await call.yard.store.read(audit.verify)
    return {
        "intact": found.intact,
        "records": found.records,
        "head": found.head,
        "broken_at": found.broken_at,
        "reason": found.reason,
    }


async def export(call: Call) -> Any:
    """JSON Lines of CloudEvents, oldest first, read a page at a time."""

    async def lines() -> AsyncIterator[str]:
        after = 0
        while page := await call.yard.store.read(lambda conn, after=after: log.read(conn, after=after)):
            yield "".join(audit.line(event) + "\n" for event in page)
            after = page[-1].seq

    return StreamingResponse(lines(), media_type="application/jsonl")


ROUTES = [
    Route("GET", "/api/v1/events", Permission.AUDIT_READ, list_events, summary="events, oldest first"),
    Route("GET", "/api/v1/events/{id}/chain", Permission.AUDIT_READ, chain, summary="causes and consequences"),
    Route("GET", "/api/v1/audit/verification", Permission.AUDIT_READ, verify, summary="verify the hash chain"),
    Route("GET", "/api/v1/audit/export", Permission.AUDIT_READ, export, summary="the chain as JSON Lines"),
]
