"""Monitors and alerts."""

from typing import Any

import msgspec
from sqlalchemy import Connection

from modelyard.deliver.deployments import records as endpoints
from modelyard.deliver.monitoring import records
from modelyard.domain.errors import Invalid
from modelyard.domain.permissions import Permission
from modelyard.domain.states import AlertState
from modelyard.server.routes import Call, Route


class Result(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    version: int
    window_start: int
    window_end: int
    rows: int
    verdict: str
    title: str
    detail: dict[str, Any]


class Results(msgspec.Struct, forbid_unknown_fields=True):
    results: list[Result]


class Note(msgspec.Struct, forbid_unknown_fields=True):
    note: str = ""


async def list_results(call: Call) -> Any:
    environment, name, kind = call.path["environment"], call.path["name"], call.query.get("kind")
    found = await call.yard.store.read(lambda conn: records.results(conn, environment, name, kind))
    return {"results": found, "next": None}


async def add_results(call: Call) -> Any:
    """Record what a monitor run found; alerts and events follow in the same transaction."""
    environment, name, actor = call.path["environment"], call.path["name"], call.principal.name
    project = call.yard.project

    def work(conn: Connection) -> list[str]:
        model = endpoints.get_endpoint(conn, environment, name).model
        declared = project.models.get(model)
        persistence = declared.monitor.persistence if declared and declared.monitor else 1
        return [
            records.record(
                conn, environment, name, model, msgspec.to_builtins(result), actor=actor, persistence=persistence
            )
            for result in call.body.results
        ]

    return {"ids": await call.yard.store.write(work)}


async def list_alerts(call: Call) -> Any:
    wanted = call.query.get("all") != "true"
    return {"alerts": await call.yard.store.read(lambda conn: records.find(conn, wanted)), "next": None}


async def get_alert(call: Call) -> Any:
    return await call.yard.store.read(lambda conn: records.get(conn, call.path["id"]))


async def answer_alert(call: Call) -> Any:
    states = {"acknowledge": AlertState.ACKNOWLEDGED, "mute": AlertState.MUTED, "resolve": AlertState.RESOLVED}
    state = states.get(call.path["action"])
    if state is None:
        raise Invalid(f"{call.path['action']!r} is not known.", remedy=f"One of {', '.join(states)}.")
    alert_id, note, actor = call.path["id"], call.body.note, call.principal.name
    return await call.yard.store.write(lambda conn: records.answer(conn, alert_id, state, note, actor=actor))


R, W, REPORT = Permission.MONITORS_READ, Permission.MONITORS_WRITE, Permission.MONITORS_REPORT
RESULTS = "/api/v1/environments/{environment}/endpoints/{name}/monitor-results"
ROUTES = [
    Route("GET", RESULTS, R, list_results, environment="environment"),
    Route("POST", RESULTS, REPORT, add_results, body=Results, environment="environment", max_body=32 << 20),
    Route("GET", "/api/v1/alerts", R, list_alerts),
    Route("GET", "/api/v1/alerts/{id}", R, get_alert),
    Route("POST", "/api/v1/alerts/{id}/{action}", W, answer_alert, body=Note),
]
