"""What alerts, schedules and people lead to: notifications, and retraining by policy, or the reason why not."""

from typing import Any

from sqlalchemy import Connection

from modelyard.deliver.monitoring import alerts, policy, records
from modelyard.deliver.monitoring.kinds import ALERT, DATA, ESTIMATE, QUALITY
from modelyard.deliver.monitoring.policy import GROWTH, LABELS, SCHEDULE, Situation
from modelyard.domain.errors import Conflict, NotFound
from modelyard.domain.monitors import Monitor
from modelyard.domain.project import Project
from modelyard.domain.states import ApprovalState
from modelyard.events import jobs, log
from modelyard.events.dispatch import Dispatcher
from modelyard.events.log import Event
from modelyard.kit.clock import now_ms
from modelyard.registry import approvals, evidence

NOTICES = ["approval.requested", "gates.failed", "rollout.aborted", "rollout.paused", "retrain.unhelpful"]
MOST_RESENT = 1000
HELPED, DID_NOT_HELP = "gates.passed", ("gates.failed", "pipeline-run.failed")


def subscribe(dispatcher: Dispatcher, project: Project) -> None:
    """alert.opened -> notify, retrain; what waits for a person -> notify; a new champion resolves older alerts."""

    def on_alert(conn: Connection, event: Event) -> None:
        declared = _monitor(project, event.data["model"])
        for action in declared.on_alert if declared else []:
            kind, _, channel = action.partition(":")
            if kind == "notify":
                _notify(conn, channel, event)
            elif kind == "retrain" and declared is not None:
                data = event.data
                retrain(conn, project, declared, data["model"], data["kind"], data["title"], event.id)

    def on_waiting(conn: Connection, event: Event) -> None:
        declared = _monitor(project, event.data["model"])
        for action in declared.on_alert if declared else []:
            kind, _, channel = action.partition(":")
            if kind == "notify":
                _notify(conn, channel, event)

    def on_completed(conn: Connection, event: Event) -> None:
        data = event.data
        alerts.resolve_older(conn, data["environment"], data["model"], data["version"], event.id)

    def on_evaluated(conn: Connection, event: Event) -> None:
        declared = _monitor(project, event.data["model"])
        if event.data.get("past"):
            return
        if declared is not None and (declared.retrain.new_labels or declared.retrain.growth):
            _on_labels(conn, project, declared, event)

    dispatcher.subscribe("monitor.alerts", ["alert.opened"], on_alert)
    dispatcher.subscribe("monitor.notices", NOTICES, on_waiting)
    dispatcher.subscribe("monitor.champions", ["rollout.completed"], on_completed)
    dispatcher.subscribe("monitor.labels", ["monitor.evaluated"], on_evaluated)


def by_hand(conn: Connection, project: Project, model: str, reason: str, actor: str) -> Event:
    """Start a model's pipeline for a person, who is not bound by the policy. Raises NotFound, Conflict."""
    declared = project.models.get(model)
    if declared is None:
        raise NotFound(f"The project declares no model {model!r}.", remedy=f"Add [models.{model}] to modelyard.toml.")
    if not declared.pipeline:
        raise Conflict(f"{model} declares no pipeline.", remedy='Add pipeline = "pipeline.py:train" to it.')
    params = declared.monitor.retrain.params if declared.monitor else {}
    return _start(conn, model, declared.pipeline, params, reason, actor, None)


def on_schedule(conn: Connection, project: Project, model: str) -> None:
    """A schedule's retrain is due: start it, or say why not."""
    declared = _monitor(project, model)
    if declared is not None:
        retrain(conn, project, declared, model, SCHEDULE, f"every {declared.retrain.every}", None)


def retrain(
    conn: Connection, project: Project, declared: Monitor, model: str, kind: str, title: str, cause: str | None
) -> Event:
    """The event of the retrain that starts now, or of why it does not; the third in vain is told to a person."""
    pipeline = project.models[model].pipeline
    subject = f"model/{model}"
    situation = situation_of(conn, project, model, kind)
    reason = policy.why_not(declared.retrain, situation) if pipeline else "the model declares no pipeline"
    if reason is None:
        return _start(conn, model, pipeline, declared.retrain.params, title, "modelyard", cause)
    data = {"model": model, "reason": reason, "title": title}
    if pipeline and situation.unhelpful >= declared.retrain.most_unhelpful:
        return log.append(conn, "retrain.unhelpful", subject, "modelyard", data, cause=cause)
    return log.append(conn, "retrain.skipped", subject, "modelyard", data, cause=cause)


def _start(
    conn: Connection, model: str, pipeline: str, params: dict[str, Any], title: str, actor: str, cause: str | None
) -> Event:
    data = {"model": model, "pipeline": pipeline, "title": title}
    started = log.append(conn, "retrain.triggered", f"model/{model}", actor, data, cause=cause)
    jobs.enqueue(conn, "pipeline", {"pipeline": pipeline, "params": params}, cause=started.id)
    return started


def situation_of(conn: Connection, project: Project, model: str, kind: str) -> Situation:
    """What the policy has to know of a model now, read from the log, the results and the approvals."""
    past = log.read(conn, types=["retrain.triggered"], subject=f"model/{model}", limit=200, newest_first=True)
    environment = project.final_environment or ""
    newest = {name: records.results(conn, environment, model, name, 1) for name in (QUALITY, ESTIMATE, DATA)}
    data = newest[DATA]
    broken = data[0]["result"]["title"] if data and data[0]["verdict"] == ALERT else ""
    return Situation(
        now=now_ms(),
        kind=kind,
        past=tuple(event.time for event in past),
        measured=_measured(newest[QUALITY]),
        estimated=bool(newest[ESTIMATE]),
        waiting=_waiting(conn, model, past),
        unhelpful=_unhelpful(conn, past),
        broken=broken,
    )


def _measured(newest: list[dict[str, Any]]) -> bool:
    """Whether quality is measured; a window with too few labels to judge does not count."""
    return bool(newest) and newest[0]["result"].get("value", 0.0) is not None


def _waiting(conn: Connection, model: str, past: list[Event]) -> bool:
    """Whether a version of the newest retrain waits for a person's decision."""
    if not past:
        return False
    made = {event.data.get("version") for event in log.consequences(conn, past[0].id) if event.type == HELPED}
    return any(item.version in made for item in approvals.find(conn, model, state=ApprovalState.OPEN))


def _unhelpful(conn: Connection, past: list[Event]) -> int:
    """How many of the newest retrains, in a row within a week, ended without a version that passed its gates."""
    count, since = 0, now_ms() - policy.WEEK_MS
    for event in past:
        if event.time < since:
            return count
        types = {later.type for later in log.consequences(conn, event.id)}
        if HELPED in types:
            return count
        count += any(kind in types for kind in DID_NOT_HELP)
    return count


def _on_labels(conn: Connection, project: Project, declared: Monitor, event: Event) -> None:
    """Retrain when enough labelled rows were judged since the last retrain, by number or by share of those before."""
    model, wanted = event.data["model"], declared.retrain
    past = log.read(conn, types=["retrain.triggered"], subject=f"model/{model}", limit=1, newest_first=True)
    after = past[0].time if past else 0
    judged = records.labelled_rows(conn, event.data["environment"], event.data["endpoint"])
    rows = sum(count for made, count in judged if made > after)
    before = sum(count for made, count in judged if made <= after) + _evaluated(conn, event)
    title = f"{rows} new labelled rows"
    if wanted.new_labels is not None and rows >= wanted.new_labels:
        retrain(conn, project, declared, model, LABELS, title, event.id)
    elif wanted.growth is not None and rows and rows >= wanted.growth * before:
        title += f", {rows / max(before, 1):.0%} of those before"
        retrain(conn, project, declared, model, GROWTH, title, event.id)


def _evaluated(conn: Connection, event: Event) -> int:
    """Rows that the version in question was evaluated on: what is known of its data before the first labels come."""
    version = max((item.get("version", 0) for item in event.data["results"]), default=0)
    found = evidence.evaluation(conn, event.data["model"], version)
    return int(found.get("rows", 0)) if found else 0


def _monitor(project: Project, model: str) -> Monitor | None:
    declared = project.models.get(model)
    return declared.monitor if declared else None


def resend(conn: Connection) -> list[dict[str, str]]:
    """Send again what no channel took: [{channel, about}]. What arrived meanwhile, or waits again, is left out."""
    failed = log.read(conn, types=["notification.failed"], limit=MOST_RESENT, newest_first=True)
    sent: list[dict[str, str]] = []
    seen: set[tuple[str, str]] = set()
    for event in reversed(failed):
        channel, about = event.data["channel"], log.get(conn, event.cause) if event.cause else None
        if about is None or (channel, about.id) in seen:
            continue
        seen.add((channel, about.id))
        later = [found for found in log.consequences(conn, about.id) if found.data.get("channel") == channel]
        if any(found.type == "notification.sent" for found in later) or jobs.pending(conn, "notify", about.id):
            continue
        _notify(conn, channel, about)
        sent.append({"channel": channel, "about": about.type})
    return sent


def _notify(conn: Connection, channel: str, event: Event) -> None:
    payload = {"channel": channel, "type": event.type, "subject": event.subject, "data": event.data}
    jobs.enqueue(conn, "notify", payload, cause=event.id)
