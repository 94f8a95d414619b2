"""Alerts: one for one cause, open until somebody or good windows answer it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from modelyard.deliver.monitoring.kinds import RANK, SEVERITY
from modelyard.domain.errors import Invalid, NotFound
from modelyard.domain.states import AlertState, check_transition
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id
from modelyard.store.tables.monitoring import alerts

UNRESOLVED = (AlertState.OPEN, AlertState.ACKNOWLEDGED, AlertState.MUTED)
GOOD_AGAIN = "two good windows in a row"


@dataclass(frozen=True)
class Alert:
    """detail: the newest result's, with `since` (first alarming window) and `also` (what else the cause shows)."""

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
            _resolve(conn, alert, f"v{version} serves now", cause)


def resolve_good(conn: Connection, environment: str, endpoint: str, kind: str) -> None:
    """Resolve the open alert of a kind that is good again; one that somebody took or muted stays with them."""
    for alert in _of(conn, environment, endpoint):
        if alert.kind == kind and alert.state == AlertState.OPEN:
            answer(conn, alert.id, AlertState.RESOLVED, GOOD_AGAIN, actor="modelyard")


def raise_alert(
    conn: Connection,
    environment: str,
    endpoint: str,
    model: str,
    result: dict[str, Any],
    event: log.Event,
    since: int,
    cool_down_ms: int = 0,
) -> None:
    """Open an alert, or let the one of the same cause speak for this alarm too.

    Drift, broken data, estimated and measured loss and bias of one version are taken as one cause: the alert of the
    gravest kind stays open, and holds the titles of the others in `also`. Within the cool-down after an alert that
    good windows resolved none opens again.
    """
    kind = result["kind"]
    also: dict[str, str] = {}
    for alert in _of(conn, environment, endpoint):
        if alert.kind == kind:
            detail = {
                **result["detail"],
                "since": alert.detail.get("since", since),
                "also": alert.detail.get("also", {}),
            }
            _touch(conn, alert, title=result["title"], detail=detail, times_seen=alert.times_seen + 1)
            return
        if kind not in RANK or alert.kind not in RANK or alert.version != result["version"]:
            continue
        if RANK[alert.kind] > RANK[kind]:
            joined = {**alert.detail.get("also", {}), kind: result["title"]}
            _touch(conn, alert, detail={**alert.detail, "also": joined})
            return
        also |= {**alert.detail.get("also", {}), alert.kind: alert.title}
        since = min(since, alert.detail.get("since", since))
        _resolve(conn, alert, f"taken in by the alert about {kind.replace('_', ' ')}", event.id)
    if not also and _cooling(conn, environment, endpoint, result, cool_down_ms):
        return
    _open(conn, environment, endpoint, model, result, event, {"since": since, "also": also})


def _open(
    conn: Connection,
    environment: str,
    endpoint: str,
    model: str,
    result: dict[str, Any],
    event: log.Event,
    extra: dict[str, Any],
) -> None:
    alert_id, now = new_id(), now_ms()
    data = {
        "environment": environment,
        "endpoint": endpoint,
        "model": model,
        "version": result["version"],
        "kind": result["kind"],
        "severity": SEVERITY[result["kind"]],
        "title": result["title"],
    }
    told = {**data, "alert": alert_id, "also": extra["also"]}
    opened = log.append(conn, "alert.opened", f"alert/{alert_id}", "modelyard", told, cause=event.id)
    conn.execute(
        insert(alerts).values(
            id=alert_id,
            state=AlertState.OPEN,
            detail={**result["detail"], **extra},
            opened_at=now,
            updated_at=now,
            times_seen=1,
            event_id=opened.id,
            **data,
        )
    )


def _of(conn: Connection, environment: str, endpoint: str) -> list[Alert]:
    """The unresolved alerts of an endpoint."""
    query = select(alerts).where(alerts.c.environment == environment, alerts.c.endpoint == endpoint)
    query = query.where(alerts.c.state.in_(list(UNRESOLVED))).order_by(alerts.c.opened_at)
    return [_alert(row) for row in conn.execute(query)]


def _cooling(conn: Connection, environment: str, endpoint: str, result: dict[str, Any], cool_down_ms: int) -> bool:
    query = select(alerts.c.id).where(
        alerts.c.environment == environment,
        alerts.c.endpoint == endpoint,
        alerts.c.kind == result["kind"],
        alerts.c.version == result["version"],
        alerts.c.note == GOOD_AGAIN,
        alerts.c.resolved_at > now_ms() - cool_down_ms,
    )
    return cool_down_ms > 0 and conn.execute(query.limit(1)).first() is not None


def _touch(conn: Connection, alert: Alert, **values: Any) -> None:
    conn.execute(update(alerts).where(alerts.c.id == alert.id).values(updated_at=now_ms(), **values))


def _resolve(conn: Connection, alert: Alert, reason: str, cause: str) -> None:
    now = now_ms()
    _touch(conn, alert, state=AlertState.RESOLVED, resolved_at=now)
    data = {"title": alert.title, "reason": reason, "environment": alert.environment, "model": alert.model}
    log.append(conn, "alert.resolved", f"alert/{alert.id}", "modelyard", data, cause=cause)


def _alert(row: Row[Any]) -> Alert:
    return Alert(**row._mapping)  # pyright: ignore[reportPrivateUsage]
