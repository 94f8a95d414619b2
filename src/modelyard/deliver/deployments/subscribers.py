"""Where an approval starts a deployment."""

from sqlalchemy import Connection

from modelyard.deliver.deployments import records
from modelyard.domain.errors import Conflict, Forbidden
from modelyard.domain.project import Project
from modelyard.domain.states import RolloutState
from modelyard.events.dispatch import Dispatcher
from modelyard.events.log import Event


def subscribe(dispatcher: Dispatcher, project: Project) -> None:
    """version.approved -> deploy; approval.voided -> the rollout that it had started is aborted."""

    def on_approved(conn: Connection, event: Event) -> None:
        data = event.data
        if data["environment"] not in project.environments:
            return
        try:
            records.deploy(
                conn, project, data["model"], data["version"], data["environment"], actor=event.actor, cause=event.id
            )
        except (Conflict, Forbidden):  # it serves already, or the approval was voided meanwhile: nothing is owed
            return

    def on_voided(conn: Connection, event: Event) -> None:
        rollout = records.active_rollout(conn, event.data["environment"], event.data["model"])
        if rollout is None or records.get(conn, rollout.to_deployment).version != event.data["version"]:
            return
        reason = "its approval was voided"
        records.finish(conn, rollout, RolloutState.ABORTED, reason, actor="modelyard", cause=event.id)

    dispatcher.subscribe("deliver.approved", ["version.approved"], on_approved)
    dispatcher.subscribe("deliver.voided", ["approval.voided"], on_voided)
