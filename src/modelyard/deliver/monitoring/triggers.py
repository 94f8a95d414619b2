"""What alerts lead to by themselves: notifications, and retraining within its cool-down and budget."""

from typing import Any

from sqlalchemy import Connection

from modelyard.deliver.monitoring import records
from modelyard.deliver.monitoring.verdicts import QUALITY
from modelyard.domain.project import Monitor, Project, seconds
from modelyard.events import jobs, log
from modelyard.events.dispatch import Dispatcher
from modelyard.events.log import Event
from modelyard.kit.clock import now_ms

WEEK_MS = 7 * 86_400_000


def subscribe(dispatcher: Dispatcher, project: Project) -> None:
    """alert.opened -> notify, retrain; approval.requested and gates.failed -> notify; a new champion resolves."""

    def on_alert(conn: Connection, event: Event) -> None:
        declared = _monitor(project, event.data["model"])
        if declared is None:
            return
        for action in declared.on_alert:
            kind, _, channel = action.partition(":")
            if kind == "notify":
                _notify(conn, channel, event)
            elif kind == "retrain":
                _retrain(conn, project, declared, event)

    def on_waiting(conn: Connection, event: Event) -> None:
        declared = _monitor(project, event.data["model"])
        for action in declared.on_alert if declared else []:
            kind, _, channel = action.partition(":")
            if kind == "notify":
                _notify(conn, channel, event)

    def on_completed(conn: Connection, event: Event) -> None:
        data = event.data
        records.resolve_older(conn, data["environment"], data["model"], data["version"], event.id)

    dispatcher.subscribe("monitor.alerts", ["alert.opened"], on_alert)
    waiting = ["approval.requested", "gates.failed", "rollout.aborted", "rollout.paused"]
    dispatcher.subscribe("monitor.notices", waiting, on_waiting)
    dispatcher.subscribe("monitor.champions", ["rollout.completed"], on_completed)


def _monitor(project: Project, model: str) -> Monitor | None:
    declared = project.models.get(model)
    return declared.monitor if declared else None


def _notify(conn: Connection, channel: str, event: Event) -> None:
    payload = {"channel": channel, "type": event.type, "subject": event.subject, "data": event.data}
    jobs.enqueue(conn, "notify", payload, cause=event.id)


def _retrain(conn: Connection, project: Project, declared: Monitor, event: Event) -> None:
    """Start the model's pipeline, or say why not. Labelled quality decides; drift alone explains."""
    model = event.data["model"]
    subject = f"model/{model}"
    reason = _why_not(conn, project, declared, event, subject)
    if reason:
        log.append(conn, "retrain.skipped", subject, "modelyard", {"model": model, "reason": reason}, cause=event.id)
        return
    data: dict[str, Any] = {"model": model, "pipeline": project.models[model].pipeline, "title": event.data["title"]}
    started = log.append(conn, "retrain.triggered", subject, "modelyard", data, cause=event.id)
    payload = {"pipeline": data["pipeline"], "params": declared.retrain.params}
    jobs.enqueue(conn, "pipeline", payload, cause=started.id)


def _why_not(conn: Connection, project: Project, declared: Monitor, event: Event, subject: str) -> str | None:
    if not project.models[event.data["model"]].pipeline:
        return "the model declares no pipeline"
    if event.data["kind"] != QUALITY:
        judged = records.results(conn, event.data["environment"], event.data["endpoint"], QUALITY, 1)
        if judged:
            return "drift alone does not retrain while labels arrive: measured quality decides"
    past = log.read(conn, types=["retrain.triggered"], subject=subject, limit=1000, newest_first=True)
    now = now_ms()
    if past and now - past[0].time < seconds(declared.retrain.cool_down) * 1000:
        return f"the last retrain was less than {declared.retrain.cool_down} ago"
    if sum(now - item.time < WEEK_MS for item in past) >= declared.retrain.budget_per_week:
        return f"the budget of {declared.retrain.budget_per_week} retrains a week is used up"
    return None
