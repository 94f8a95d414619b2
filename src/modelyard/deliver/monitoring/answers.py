"""What an alert tells a person: what changed, since when, how sure, what it costs, what was done, what to do."""

from typing import Any

from sqlalchemy import Connection

from modelyard.deliver.monitoring.alerts import Alert
from modelyard.deliver.monitoring.kinds import BIAS, DATA, DRIFT, ESTIMATE, EXPLANATION, QUALITY, SERVICE, STREAM
from modelyard.deliver.monitoring.records import results
from modelyard.events import log
from modelyard.kit.clock import iso

TOP = 5
DONE = {
    "retrain.triggered": "a retrain was started",
    "retrain.skipped": "no retrain was started: {reason}",
    "retrain.unhelpful": "retraining does not help: {reason}",
    "version.registered": "version {version} was registered",
    "gates.passed": "version {version} passed its gates",
    "gates.failed": "version {version} failed its gates: {reason}",
    "approval.requested": "approval of version {version} for {environment} was asked",
    "version.approved": "version {version} was approved for {environment}",
    "rollout.started": "the rollout started",
    "rollout.completed": "version {version} serves",
    "rollout.aborted": "the rollout was taken back: {reason}",
    "notification.sent": "{channel} was notified",
    "notification.failed": "{channel} could not be notified: {reason}",
}


def explain(conn: Connection, alert: Alert) -> dict[str, Any]:
    """The alert's page as plain data: {what, since, sure, cost, columns, slices, pictures, done, options}."""
    drift = _newest_drift(conn, alert)
    columns = [column for column in drift.get("columns", []) if column.get("drifted")][:TOP]
    return {
        "what": [alert.title, *(f"{kind.replace('_', ' ')}: {title}" for kind, title in _also(alert))],
        "since": iso(alert.detail["since"]) if alert.detail.get("since") else iso(alert.opened_at),
        "sure": _sure(alert),
        "cost": _cost(alert),
        "columns": [
            {key: column.get(key) for key in ("name", "effect", "threshold", "psi", "importance", "moved")}
            for column in columns
        ],
        "slices": alert.detail.get("slices", [])[:TOP],
        "pictures": _pictures(alert, drift),
        "done": _done(conn, alert),
        "options": _options(alert),
    }


def pictures(conn: Connection, alert: Alert) -> dict[str, str]:
    """Drawings as SVG, by name: the measure over the windows, and the columns that moved most."""
    return _pictures(alert, _newest_drift(conn, alert))


def _pictures(alert: Alert, drift: dict[str, Any]) -> dict[str, str]:
    return {**alert.detail.get("pictures", {}), **drift.get("pictures", {})}


def _newest_drift(conn: Connection, alert: Alert) -> dict[str, Any]:
    if alert.kind == DRIFT:
        return alert.detail
    found = results(conn, alert.environment, alert.endpoint, DRIFT, 1)
    return found[0]["result"] if found and found[0]["version"] == alert.version else {}


def _also(alert: Alert) -> list[tuple[str, str]]:
    return list(alert.detail.get("also", {}).items())


def _sure(alert: Alert) -> str:
    """How sure the alarm is, in words."""
    detail = alert.detail
    seen = f"seen in {alert.times_seen} window{'s' if alert.times_seen > 1 else ''}"
    if alert.kind == DRIFT and detail.get("calibrated"):
        return (
            f"{seen}; thresholds learnt from {detail['reference_windows']} windows of the reference, of which "
            f"{detail['false_alarm_rate']:.1%} would have alarmed"
        )
    if alert.kind == DRIFT:
        return f"{seen}; uncalibrated: effect and corrected significance, as if rows were independent"
    if alert.kind == QUALITY and detail.get("low") is not None:
        return f"{seen}; {detail['rows']} labels, 95% interval {detail['low']:.3f} to {detail['high']:.3f}"
    if alert.kind == ESTIMATE:
        past = detail.get("record", {})
        return f"{seen}; an estimate; {past.get('hits', 0)} of {past.get('windows', 0)} earlier ones were right"
    return seen


def _cost(alert: Alert) -> str:
    """What it probably costs, in terms of predictions; empty when that cannot be told."""
    value, baseline = alert.detail.get("value"), alert.detail.get("baseline")
    if alert.kind not in (QUALITY, ESTIMATE) or value is None or baseline is None:
        return ""
    metric = alert.detail["metric"]
    if metric == "roc_auc":
        more = abs(baseline - value) * 1000
        return f"of 1,000 pairs of a case and a non-case about {more:.0f} more are ranked wrongly"
    if metric == "accuracy":
        return f"about {abs(baseline - value) * 1000:.0f} more wrong answers in 1,000 predictions"
    return f"{metric} is {value:.4g} instead of {baseline:.4g} on each prediction"


def _done(conn: Connection, alert: Alert) -> list[dict[str, str]]:
    """What followed from the alert by itself, in order."""
    if alert.event_id is None:
        return []
    found: list[dict[str, str]] = []
    for event in log.consequences(conn, alert.event_id):
        said = DONE.get(event.type)
        if said is not None:
            values = {"version": "", "environment": "", "reason": "", "channel": "", **event.data}
            found.append({"at": iso(event.time), "event": event.type, "said": said.format_map(values)})
    return found


def _options(alert: Alert) -> list[str]:
    """Commands that a person may run now, the likeliest first."""
    short = alert.id[:8]
    own = {
        QUALITY: [f"modelyard versions {alert.model}", f"modelyard monitor retrain {alert.model}"],
        ESTIMATE: [f"modelyard monitor results {alert.model}", f"modelyard monitor retrain {alert.model}"],
        DRIFT: [f"modelyard monitor report {alert.model} --save drift.html"],
        STREAM: [f"modelyard monitor results {alert.model} --kind stream"],
        EXPLANATION: [f"modelyard monitor results {alert.model} --kind explanation"],
        DATA: [f"modelyard monitor constraints {alert.model}"],
        BIAS: [f"modelyard monitor results {alert.model} --kind bias"],
        SERVICE: ["modelyard endpoints", f"modelyard rollback {alert.environment}/{alert.endpoint}"],
    }
    return [
        *own[alert.kind],
        f'modelyard alerts acknowledge {short} -m "I am on it"',
        f'modelyard alerts mute {short} -m "why"',
        f'modelyard alerts resolve {short} -m "what was done"',
    ]
