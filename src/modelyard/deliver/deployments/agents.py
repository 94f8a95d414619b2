"""Machines that only serve, as the hub knows them: what they report, and when they were away."""

from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select, update

from modelyard.deliver.deployments import offline
from modelyard.deliver.deployments.offline import Operation
from modelyard.domain.errors import Invalid
from modelyard.domain.permissions import Principal
from modelyard.domain.project import Project
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.store.tables.delivery import agents

AWAY_MS = 30_000
"""An agent that was silent for longer was away: its return is told."""


class Report(msgspec.Struct, forbid_unknown_fields=True):
    """What an agent says: its workers, its gateway's counters, what became of its prediction log, rollbacks made
    there while the hub was away, and why it cannot prepare a version, by digest.
    """

    workers: dict[str, Any] = {}
    stats: dict[str, Any] | None = None
    log: dict[str, int] = {}
    operations: list[Operation] = []
    unready: dict[str, str] = {}


def report(
    conn: Connection, project: Project, environment: str, name: str, said: Report, principal: Principal
) -> list[str]:
    """The ids of the operations that are recorded now. Raises Invalid for an unknown environment."""
    if environment not in project.environments:
        known = ", ".join(sorted(project.environments))
        raise Invalid(f"There is no environment {environment!r}.", remedy=f"Environments: {known}.")
    for operation in said.operations:
        offline.apply(conn, project, environment, operation)
    where = (agents.c.environment == environment, agents.c.name == name)
    held = conn.execute(select(agents.c.seen_at).where(*where)).scalar()
    now = now_ms()
    told = {"workers": said.workers, "stats": said.stats, "log": said.log, "unready": said.unready}
    values: dict[str, Any] = {"principal": principal.name, "seen_at": now, "report": told}
    if held is None:
        conn.execute(insert(agents).values(environment=environment, name=name, **values))
    else:
        conn.execute(update(agents).where(*where).values(**values))
    away = None if held is None else now - held
    if away is None or away > AWAY_MS or said.operations:
        data = {"environment": environment, "away_ms": away, "operations": [item.id for item in said.operations]}
        log.append(conn, "agent.seen", f"agent/{environment}/{name}", principal.name, data)
    return [item.id for item in said.operations]


def counted(conn: Connection, environment: str) -> dict[str, dict[str, Any]]:
    """{agent: its gateway's counters} of those that spoke lately: part of what a rollout is judged by."""
    query = select(agents.c.name, agents.c.report).where(
        agents.c.environment == environment, agents.c.seen_at > now_ms() - AWAY_MS
    )
    return {name: told["stats"] for name, told in conn.execute(query) if told["stats"]}


def every(conn: Connection) -> list[dict[str, Any]]:
    query = select(agents).order_by(agents.c.environment, agents.c.name)
    return [dict(row._mapping) for row in conn.execute(query)]  # pyright: ignore[reportPrivateUsage]
