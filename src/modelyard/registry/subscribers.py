"""What follows by itself in the registry: evidence leads to gates, gates to requests for approval."""

from sqlalchemy import Connection

from modelyard.domain.project import Project
from modelyard.events.dispatch import Dispatcher
from modelyard.events.log import Event
from modelyard.registry import approvals, gates, versions


def subscribe(dispatcher: Dispatcher, project: Project) -> None:
    """Evidence -> gates -> approval requests; changed evidence voids what was decided on the old."""

    def on_evidence(conn: Connection, event: Event) -> None:
        version = versions.find(conn, event.data["model"], event.data["version"])
        if version is None:
            return
        approvals.void_all(conn, version, "new evidence was attached", event.id)
        verdict = gates.record(conn, project, version.model, version.version, event.id)
        if verdict.type == "gates.passed":
            approvals.request_all(conn, project, version, verdict.id)

    dispatcher.subscribe("registry.gates", ["evidence.attached"], on_evidence)
