"""Monitors, alerts, retraining by hand, and the channels that notifications go to."""

import asyncio
from dataclasses import asdict
from typing import Any

import msgspec
from sqlalchemy import Connection

from modelyard.deliver.deployments import records as endpoints
from modelyard.deliver.monitoring import alerts, answers, baselines, notifications, records, triggers
from modelyard.domain.errors import Invalid
from modelyard.domain.permissions import Permission
from modelyard.domain.sections import seconds
from modelyard.domain.states import AlertState
from modelyard.events import log
from modelyard.kit.clock import iso
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
    past: bool = False
    """Windows of long ago: they are recorded, and lead to no event about them, no alert and no retrain."""


class Note(msgspec.Struct, forbid_unknown_fields=True):
    note: str = ""


class Reason(msgspec.Struct, forbid_unknown_fields=True):
    reason: str


async def list_results(call: Call) -> Any:
    environment, name, kind = call.path["environment"], call.path["name"], call.query.get("kind")
    limit = _limit(call.query.get("limit", "50"))
    found = await call.yard.store.read(lambda conn: records.results(conn, environment, name, kind, limit))
    return {"results": found, "next": None}


def _limit(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 5000:
        raise Invalid(f"limit is {text!r}.", remedy="Give a whole number from 1 to 5000.")
    return int(text)


async def add_results(call: Call) -> Any:
    """Record what a monitor run found; alerts and events follow in the same transaction."""
    environment, name, actor = call.path["environment"], call.path["name"], call.principal.name
    project = call.yard.project

    def work(conn: Connection) -> list[str]:
        model = endpoints.get_endpoint(conn, environment, name).model
        declared = project.models.get(model)
        monitor = declared.monitor if declared else None
        ids = [
            records.record(
                conn,
                environment,
                name,
                model,
                msgspec.to_builtins(result),
                actor=actor,
                persistence=monitor.persistence if monitor else 1,
                cool_down_ms=int(seconds(monitor.cool_down) * 1000) if monitor else 0,
                past=call.body.past,
            )
            for result in call.body.results
        ]
        verdicts = [
            {"kind": result.kind, "version": result.version, "verdict": result.verdict}
            for result in call.body.results
        ]
        data = {"environment": environment, "endpoint": name, "model": model, "results": verdicts}
        data["past"] = call.body.past
        log.append(conn, "monitor.evaluated", f"endpoint/{environment}/{name}", actor, data)
        return ids

    return {"ids": await call.yard.store.write(work)}


async def baseline(call: Call) -> Any:
    """What the version that serves is compared with: its reference window, or its first window since a moment."""
    environment, name = call.path["environment"], call.path["name"]
    return await call.yard.store.read(lambda conn: baselines.read(conn, environment, name))


async def rebase(call: Call) -> Any:
    """Let a version without a reference window be compared with the next whole window that it answers."""
    environment, name, actor = call.path["environment"], call.path["name"], call.principal.name
    project, reason = call.yard.project, call.body.reason
    return await call.yard.store.write(
        lambda conn: baselines.rebase(conn, project, environment, name, reason, actor=actor)
    )


async def list_alerts(call: Call) -> Any:
    wanted = call.query.get("all") != "true"
    return {"alerts": await call.yard.store.read(lambda conn: alerts.find(conn, wanted)), "next": None}


async def get_alert(call: Call) -> Any:
    """The alert with its explanation: what changed, since when, how sure, what was done, what to do."""

    def work(conn: Connection) -> dict[str, Any]:
        found = alerts.get(conn, call.path["id"])
        return {**asdict(found), "explanation": answers.explain(conn, found)}

    return await call.yard.store.read(work)


async def answer_alert(call: Call) -> Any:
    states = {"acknowledge": AlertState.ACKNOWLEDGED, "mute": AlertState.MUTED, "resolve": AlertState.RESOLVED}
    state = states.get(call.path["action"])
    if state is None:
        raise Invalid(f"{call.path['action']!r} is not known.", remedy=f"One of {', '.join(states)}.")
    alert_id, note, actor = call.path["id"], call.body.note, call.principal.name
    return await call.yard.store.write(lambda conn: alerts.answer(conn, alert_id, state, note, actor=actor))


async def retrain(call: Call) -> Any:
    """Start a model's pipeline by hand, with the reason; cool-down, budget and quiet hours do not bind a person."""
    model, reason, actor, project = call.path["name"], call.body.reason, call.principal.name, call.yard.project
    event = await call.yard.store.write(lambda conn: triggers.by_hand(conn, project, model, reason, actor))
    return {"event": event.id}


async def check_channel(call: Call) -> Any:
    """Send a test message with a picture, at once. The answer is an error that says why it did not arrive."""
    channel, actor = call.path["name"], call.principal.name
    data = {"title": f"A test by {actor}: this channel works.", "model": "", "environment": ""}
    about = "channel.test", data, call.yard.home, None, {"a picture": notifications.SAMPLE}
    await asyncio.to_thread(notifications.send, call.yard.project, channel, *about)
    return {"channel": channel, "sent": True}


async def resend(call: Call) -> Any:
    """Send again every notification that could not be delivered."""
    return {"sent": await call.yard.store.write(triggers.resend), "next": None}


async def alertmanager(call: Call) -> Any:
    """Unresolved alerts in the shape of Prometheus Alertmanager's API v2, for tools that read it."""
    found = await call.yard.store.read(lambda conn: alerts.find(conn, True))
    return [_as_alertmanager(alert) for alert in found]


def _as_alertmanager(alert: alerts.Alert) -> dict[str, Any]:
    muted = alert.state == AlertState.MUTED
    labels = {"alertname": alert.kind, "severity": alert.severity, "environment": alert.environment}
    labels |= {"endpoint": alert.endpoint, "model": alert.model, "version": str(alert.version)}
    return {
        "labels": labels,
        "annotations": {"summary": alert.title, "note": alert.note or ""},
        "startsAt": iso(alert.opened_at),
        "updatedAt": iso(alert.updated_at),
        "endsAt": iso(alert.resolved_at or alert.updated_at + 86_400_000),
        "fingerprint": alert.id[:16],
        "generatorURL": f"/alerts/{alert.id}",
        "receivers": [],
        "status": {
            "state": "suppressed" if muted else "active",
            "silencedBy": [alert.note or "muted"] if muted else [],
            "inhibitedBy": [],
        },
    }


R, W, REPORT, RUN = (
    Permission.MONITORS_READ,
    Permission.MONITORS_WRITE,
    Permission.MONITORS_REPORT,
    Permission.PIPELINES_RUN,
)
E, ONE = "environment", "/api/v1/environments/{environment}/endpoints/{name}"
ROUTES = [
    Route("GET", ONE + "/monitor-results", R, list_results, environment=E),
    Route("POST", ONE + "/monitor-results", REPORT, add_results, body=Results, environment=E, max_body=32 << 20),
    Route("GET", ONE + "/baseline", R, baseline, environment=E),
    Route("POST", ONE + "/baseline", W, rebase, body=Reason, environment=E),
    Route("GET", "/api/v1/alerts", R, list_alerts),
    Route("GET", "/api/v1/alerts/{id}", R, get_alert),
    Route("POST", "/api/v1/alerts/{id}/{action}", W, answer_alert, body=Note),
    Route("POST", "/api/v1/models/{name}/retrain", RUN, retrain, body=Reason),
    Route("POST", "/api/v1/channels/{name}/test", W, check_channel),
    Route("POST", "/api/v1/notifications/resend", W, resend),
    Route("GET", "/api/v2/alerts", R, alertmanager),
]
