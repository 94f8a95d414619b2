"""Where an approval starts a deployment, and an alarm takes one back."""

from sqlalchemy import Connection

from modelyard.deliver.deployments import records, rollouts
from modelyard.domain.errors import Conflict, Forbidden, NotFound
from modelyard.domain.project import Project
from modelyard.events import log
from modelyard.events.dispatch import Dispatcher
from modelyard.events.log import Event

CRITICAL = "critical"


def subscribe(dispatcher: Dispatcher, project: Project) -> None:
    """version.approved -> deploy; approval.voided -> the rollout that it had started is aborted; a critical alert of
    a model that declares `on_alert = ["rollback"]` -> roll back.
    """

    def on_approved(conn: Connection, event: Event) -> None:
        data = event.data
        if data["environment"] not in project.environments:
            return
        try:
            rollouts.deploy(
                conn, project, data["model"], data["version"], data["environment"], actor=event.actor, cause=event.id
            )
        except (Conflict, Forbidden):  # it serves already, or the approval was voided meanwhile: nothing is owed
            return

    def on_voided(conn: Connection, event: Event) -> None:
        rollout = records.active_rollout(conn, event.data["environment"], event.data["model"])
        if rollout is None or records.get(conn, rollout.to_deployment).version != event.data["version"]:
            return
        rollouts.abort(conn, rollout, "its approval was voided", cause=event.id)

    def on_alert(conn: Connection, event: Event) -> None:
        data = event.data
        declared = project.models.get(data["model"])
        monitor = declared.monitor if declared else None
        if monitor is None or "rollback" not in monitor.on_alert or data["severity"] != CRITICAL:
            return
        endpoint = records.find_endpoint(conn, data["environment"], data["endpoint"])
        live = records.get(conn, endpoint.live) if endpoint and endpoint.live else None
        if endpoint is None or live is None or live.version != data["version"]:
            return  # the alarm is about a version that serves no more
        newest = log.read(conn, types=["rollback.completed"], subject=endpoint.subject, limit=1, newest_first=True)
        if newest and newest[0].data["to"] == live.version:  # it is where an earlier alarm led: a person has to look
            return
        try:
            rollouts.rollback(
                conn,
                project,
                data["environment"],
                data["endpoint"],
                f"alarm: {data['title']}",
                actor=rollouts.PLATFORM,
                cause=event.id,
            )
        except (Conflict, Forbidden, NotFound):  # nothing to go back to: the alert itself stays open
            return

    dispatcher.subscribe("deliver.approved", ["version.approved"], on_approved)
    dispatcher.subscribe("deliver.voided", ["approval.voided"], on_voided)
    dispatcher.subscribe("deliver.alarms", ["alert.opened"], on_alert)
