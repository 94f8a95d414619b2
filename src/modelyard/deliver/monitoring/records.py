"""Results and alerts as the database holds them."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from modelyard.deliver.monitoring.verdicts import ALERT, DRIFT, OK, QUALITY, WARNING
from modelyard.domain.errors import Invalid, NotFound
from modelyard.domain.states import AlertState, check_transition
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id
from modelyard.store.tables.monitoring import alerts, monitor_results

EVENTS = {DRIFT: "drift.detected", QUALITY: "quality.degraded"}
SEVERITY = {DRIFT: "warning", QUALITY: "critical"}
UNRESOLVED = (AlertState.OPEN, AlertState.ACKNOWLEDGED, AlertState.MUTED)


@dataclass(frozen=True)
class Alert:
    id: str
    environment: str
    endpoint: str
    model: str
    version: int
    kind: str
    severity: str
    state: str
    title: str
    detail: dict[str, Any]
    opened_at: int
    updated_at: int
    times_seen: int
    acknowledged_by: str | None
    note: str | None
    resolved_at: int | None
    event_id: str | None


def record(
    conn: Connection,
    environment: str,
    endpoint: str,
    model: str,
    result: dict[str, Any],
    *,
    actor: str,
    persistence: int,
) -> str:
    """The result's id. An alarm that persists opens an alert, or is added to the one that is open; a good window
    after an alarm resolves what nobody has taken.
    """
    result_id, verdict, kind = new_id(), result["verdict"], result["kind"]
    if verdict not in (OK, WARNING, ALERT) or kind not in EVENTS:
        raise Invalid(f"{kind}/{verdict} is not a monitor's result.")
    keys = ("version", "kind", "window_start", "window_end", "rows", "verdict")
    conn.execute(
        insert(monitor_results).values(
            id=result_id,
            environment=environment,
            endpoint=endpoint,
            model=model,
            created_at=now_ms(),
            result={"title": result["title"], **result["detail"]},
            **{key: result[key] for key in keys},
        )
    )
    if verdict != ALERT:
        if verdict == OK:
            _resolve_good(conn, environment, endpoint, kind)
        return result_id
    subject = f"endpoint/{environment}/{endpoint}"
    data = {
        "environment": environment,
        "model": model,
        "version": result["version"],
        "title": result["title"],
        "result": result_id,
        "rows": result["rows"],
        "drifted": result["detail"].get("drifted", []),
    }
    cause = None
    if kind == QUALITY:
        drifts = log.read(conn, types=["drift.detected"], subject=subject, limit=1, newest_first=True)
        cause = drifts[0].id if drifts and drifts[0].data["version"] == result["version"] else None
    event = log.append(conn, EVENTS[kind], subject, actor, data, cause=cause)
    newest = results(conn, environment, endpoint, kind, persistence)
    if len(newest) >= persistence and all(item["verdict"] == ALERT for item in newest):
        _raise_alert(conn, environment, endpoint, model, result, event)
    return result_id


def results(
    conn: Connection, environment: str, endpoint: str, kind: str | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """A monitor's results, newest window first."""
    table = monitor_results
    query = select(table).where(table.c.environment == environment, table.c.endpoint == endpoint)
    if kind is not None:
        query = query.where(table.c.kind == kind)
    query = query.order_by(table.c.window_end.desc(), table.c.created_at.desc()).limit(limit)
    return [dict(row._mapping) for row in conn.execute(query)]  # pyright: ignore[reportPrivateUsage]


def find(conn: Connection, unresolved_only: bool = False, limit: int = 200) -> list[Alert]:
    """Alerts, newest first."""
    query = select(alerts)
    if unresolved_only:
        query = query.where(alerts.c.state.in_(list(UNRESOLVED)))
    return [_alert(row) for row in conn.execute(query.order_by(alerts.c.opened_at.desc()).limit(limit))]


def get(conn: Connection, alert_id: str) -> Alert:
    """An alert by its id or the first 8 characters of it."""
    for row in conn.execute(select(alerts).where(alerts.c.id.startswith(alert_id[:32], autoescape=True)).limit(2)):
        return _alert(row)
    raise NotFound(f"There is no alert {alert_id!r}.", remedy="List them: modelyard alerts")


def answer(conn: Connection, alert_id: str, state: AlertState, note: str, *, actor: str) -> Alert:
    """Acknowledge, mute (with a reason) or resolve an alert."""
    found = get(conn, alert_id)
    check_transition("The alert", AlertState(found.state), state)
    if state is AlertState.MUTED and not note.strip():
        raise Invalid("Muting an alert needs a reason.", remedy='Give one: -m "why"')
    values: dict[str, Any] = {"state": state, "note": note or found.note, "updated_at": now_ms()}
    if state is AlertState.ACKNOWLEDGED:
        values["acknowledged_by"] = actor
    if state is AlertState.RESOLVED:
        values["resolved_at"] = now_ms()
    conn.execute(update(alerts).where(alerts.c.id == found.id).values(**values))
    data = {"title": found.title, "reason": note, "environment": found.environment, "model": found.model}
    log.append(conn, f"alert.{state}", f"alert/{found.id}", actor, data, cause=found.event_id)
    return get(conn, found.id)


def resolve_older(conn: Connection, environment: str, model: str, version: int, cause: str) -> None:
    """Resolve alerts about earlier versions, now that another one serves."""
    for alert in find(conn, unresolved_only=True):
        if alert.environment == environment and alert.model == model and alert.version != version:
            values = {"state": AlertState.RESOLVED, "resolved_at": now_ms(), "updated_at": now_ms()}
            conn.execute(update(alerts).where(alerts.c.id == alert.id).values(**values))
            data = {"title": alert.title, "reason": f"v{version} serves now", "model": model}
            log.append(conn, "alert.resolved", f"alert/{alert.id}", "modelyard", data, cause=cause)


def _raise_alert(
    conn: Connection, environment: str, endpoint: str, model: str, result: dict[str, Any], event: log.Event
) -> None:
    kind, now = result["kind"], now_ms()
    for alert in find(conn, unresolved_only=True):
        if (alert.environment, alert.endpoint, alert.kind) == (environment, endpoint, kind):
            values = {
                "title": result["title"],
                "detail": result["detail"],
                "updated_at": now,
                "times_seen": alert.times_seen + 1,
            }
            conn.execute(update(alerts).where(alerts.c.id == alert.id).values(**values))
            return
    alert_id = new_id()
    data = {
        "environment": environment,
        "endpoint": endpoint,
        "model": model,
        "version": result["version"],
        "kind": kind,
        "severity": SEVERITY[kind],
        "title": result["title"],
    }
    opened = log.append(conn, "alert.opened", f"alert/{alert_id}", "modelyard", data, cause=event.id)
    conn.execute(
        insert(alerts).values(
            id=alert_id,
            state=AlertState.OPEN,
            detail=result["detail"],
            opened_at=now,
            updated_at=now,
            times_seen=1,
            event_id=opened.id,
            **data,
        )
    )


def _resolve_good(conn: Connection, environment: str, endpoint: str, kind: str) -> None:
    """Two good windows in a row resolve an open alert that nobody has acknowledged or muted."""
    newest = results(conn, environment, endpoint, kind, 2)
    if len(newest) < 2 or any(item["verdict"] != OK for item in newest):
        return
    for alert in find(conn, unresolved_only=True):
        if (alert.environment, alert.endpoint, alert.kind, alert.state) == (
            environment,
            endpoint,
            kind,
            AlertState.OPEN,
        ):
            answer(conn, alert.id, AlertState.RESOLVED, "two good windows in a row", actor="modelyard")


def _alert(row: Row[Any]) -> Alert:
    return Alert(**row._mapping)  # pyright: ignore[reportPrivateUsage]
