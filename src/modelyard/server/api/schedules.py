"""Declared pipelines: when they start, starting them, and backfills."""

from typing import Any

import msgspec
from sqlalchemy import Connection

from modelyard.build.schedules import backfills, clock, starts
from modelyard.build.schedules.backfills import Range
from modelyard.build.schedules.starts import Ask
from modelyard.domain.errors import Invalid, NotFound
from modelyard.domain.permissions import Permission
from modelyard.domain.pipelines import Pipeline
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id
from modelyard.server.routes import Call, Route

SHOWN, UPCOMING, LONGEST_KEY = 50, 5, 200


class Why(msgspec.Struct, forbid_unknown_fields=True):
    reason: str = ""


class NewStart(msgspec.Struct, forbid_unknown_fields=True):
    """params: added to those declared, or in their place. key: sent again, it is answered with the same start."""

    params: dict[str, Any] = {}
    key: str = ""


class NewBackfill(msgspec.Struct, forbid_unknown_fields=True):
    """first, last: dates, or dates and times in the pipeline's zone, both included. every: a duration or cron."""

    first: str
    last: str
    every: str = ""
    params: dict[str, Any] = {}
    parallel: int = 1
    again: bool = False


async def list_schedules(call: Call) -> Any:
    """Every declared pipeline with its next moment and its newest start."""
    declared = call.yard.project.pipelines

    def work(conn: Connection) -> list[dict[str, Any]]:
        return [_shown(conn, name, each, 1) for name, each in declared.items()]

    return {"schedules": await call.yard.store.read(work)}


async def get_schedule(call: Call) -> Any:
    """One declared pipeline with its next moments, newest starts and backfills."""
    name, declared = _declared(call)

    def work(conn: Connection) -> dict[str, Any]:
        made = backfills.newest(conn, name)
        return {
            **_shown(conn, name, declared, SHOWN),
            "backfills": [_progress(conn, each, declared.zone) for each in made],
        }

    return await call.yard.store.read(work)


def _shown(conn: Connection, name: str, declared: Pipeline, limit: int) -> dict[str, Any]:
    row = clock.state(conn, name)
    return {
        "name": name,
        "declared": declared,
        "zone": declared.zone,
        "started_by": declared.started_by,
        "paused": row.paused,
        "paused_by": row.paused_by,
        "paused_why": row.paused_why,
        "next": clock.upcoming(row, declared, UPCOMING),
        "starts": starts.newest(conn, name, limit),
    }


async def start(call: Call) -> Any:
    """Start a declared pipeline now, also a paused one."""
    name, declared = _declared(call)
    body, actor = call.body, call.principal.name
    if len(body.key) > LONGEST_KEY:
        raise Invalid(f"key is longer than {LONGEST_KEY} characters.")
    slot = f"hand/{body.key or new_id()}"

    def work(conn: Connection) -> Any:
        wish = Ask(starts.HAND, slot, now_ms(), actor, params=body.params)
        starts.filled(declared, wish)
        return starts.ask(conn, name, declared, wish) or starts.by_slot(conn, name, slot)

    return await call.yard.store.write(work)


async def pause(call: Call) -> Any:
    name, _ = _declared(call)
    reason, actor = call.body.reason, call.principal.name
    await call.yard.store.write(lambda conn: clock.pause(conn, name, actor, reason))
    return await get_schedule(call)


async def resume(call: Call) -> Any:
    name, _ = _declared(call)
    project, actor = call.yard.project, call.principal.name
    await call.yard.store.write(lambda conn: clock.resume(conn, project, name, actor))
    return await get_schedule(call)


async def get_start(call: Call) -> Any:
    return await call.yard.store.read(lambda conn: starts.get(conn, call.path["id"]))


async def cancel_start(call: Call) -> Any:
    """Stop a start that waits or runs."""
    why, actor = call.body.reason or "by hand", call.principal.name
    return await call.yard.store.write(lambda conn: starts.cancel(conn, call.path["id"], actor, why))


async def backfill(call: Call) -> Any:
    """Run a declared pipeline for each moment of a range; moments that are done are left out."""
    name, declared = _declared(call)
    actor, wanted = call.principal.name, Range(**msgspec.to_builtins(call.body))
    made = await call.yard.store.write(lambda conn: backfills.begin(conn, name, declared, wanted, actor))
    return await call.yard.store.read(lambda conn: _progress(conn, backfills.get(conn, made.id), declared.zone))


async def list_moments(call: Call) -> Any:
    """The moments that a backfill would run for, in milliseconds; nothing is started."""
    _, declared = _declared(call)
    moments = backfills.moments(declared, Range(**msgspec.to_builtins(call.body)))
    return {"zone": declared.zone, "moments": moments}


async def get_backfill(call: Call) -> Any:
    def work(conn: Connection) -> dict[str, Any]:
        found = backfills.get(conn, call.path["id"])
        declared = call.yard.project.pipelines.get(found.pipeline)
        return _progress(conn, found, declared.zone if declared else "UTC")

    return await call.yard.store.read(work)


async def cancel_backfill(call: Call) -> Any:
    actor = call.principal.name
    await call.yard.store.write(lambda conn: backfills.cancel(conn, call.path["id"], actor))
    return await get_backfill(call)


def _progress(conn: Connection, found: backfills.Backfill, zone: str) -> dict[str, Any]:
    failed = [{"at": each.at, "error": each.error} for each in backfills.failures(conn, found.id)]
    return {**msgspec.to_builtins(found), "open": found.open, "zone": zone, "failures": failed}


def _declared(call: Call) -> tuple[str, Pipeline]:
    name = call.path["name"]
    found = call.yard.project.pipelines.get(name)
    if found is None:
        known = ", ".join(call.yard.project.pipelines) or "none"
        remedy = f"Declared: {known}. Add [pipelines.{name}] to modelyard.toml and start the yard again."
        raise NotFound(f"No pipeline {name!r} is declared.", remedy=remedy)
    return name, found


PR, PX = Permission.PIPELINES_READ, Permission.PIPELINES_RUN
ROUTES = [
    Route("GET", "/api/v1/schedules", PR, list_schedules),
    Route("GET", "/api/v1/schedules/{name}", PR, get_schedule),
    Route("POST", "/api/v1/schedules/{name}/start", PX, start, body=NewStart),
    Route("POST", "/api/v1/schedules/{name}/pause", PX, pause, body=Why),
    Route("POST", "/api/v1/schedules/{name}/resume", PX, resume),
    Route("POST", "/api/v1/schedules/{name}/backfill", PX, backfill, body=NewBackfill),
    Route("POST", "/api/v1/schedules/{name}/moments", PR, list_moments, body=NewBackfill),
    Route("GET", "/api/v1/starts/{id}", PR, get_start),
    Route("POST", "/api/v1/starts/{id}/cancel", PX, cancel_start, body=Why),
    Route("GET", "/api/v1/backfills/{id}", PR, get_backfill),
    Route("POST", "/api/v1/backfills/{id}/cancel", PX, cancel_backfill),
]
