"""What the version that serves is compared with, and a new first window for one that has no reference window."""

from dataclasses import dataclass

from sqlalchemy import Connection

from modelyard.deliver.deployments import records
from modelyard.domain.errors import Conflict, NotFound
from modelyard.domain.project import Project
from modelyard.events import log
from modelyard.registry import evidence

REBASED = "monitor.rebased"


@dataclass(frozen=True)
class Baseline:
    """registered: whether the version has a reference window. since: its first window is of rows later than this
    moment (ms), 0 unless a person said so, who is `by`.
    """

    version: int
    registered: bool
    since: int = 0
    by: str = ""
    reason: str = ""


def read(conn: Connection, environment: str, name: str) -> Baseline:
    """Of the version that serves. Raises NotFound, Conflict."""
    endpoint = records.get_endpoint(conn, environment, name)
    if endpoint.live is None:
        raise Conflict(f"Nothing serves at {environment}/{name}.", remedy="Deploy a version first.")
    version = records.get(conn, endpoint.live).version
    if (evidence.evaluation(conn, endpoint.model, version) or {}).get("reference") is not None:
        return Baseline(version, registered=True)
    for event in log.read(conn, types=[REBASED], subject=endpoint.subject, newest_first=True):
        if event.data["version"] == version:
            return Baseline(version, False, event.time, event.actor, event.data["reason"])
    return Baseline(version, registered=False)


def rebase(conn: Connection, project: Project, environment: str, name: str, reason: str, *, actor: str) -> Baseline:
    """Let the next whole window that the serving version answers be what later ones are compared with.

    Raises Conflict for a version that was registered with a reference window, NotFound without a monitor.
    """
    held = read(conn, environment, name)
    model = records.get_endpoint(conn, environment, name).model
    declared = project.models.get(model)
    if declared is None or declared.monitor is None:
        raise NotFound(f"{model} declares no monitor.", remedy=f"Add [models.{model}.monitor] to modelyard.toml.")
    if held.registered:
        raise Conflict(
            f"{model} v{held.version} was registered with a reference window, and is compared with that.",
            remedy="Register a version with another reference window, and deploy it.",
        )
    data = {"environment": environment, "model": model, "version": held.version, "reason": reason}
    log.append(conn, REBASED, f"endpoint/{environment}/{name}", actor, data)
    return read(conn, environment, name)
