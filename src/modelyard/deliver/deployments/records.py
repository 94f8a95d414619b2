"""Endpoints, deployments and rollouts as the database holds them, and every way in which they change."""

from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from modelyard.domain.errors import Conflict, NotFound
from modelyard.domain.project import Project, RolloutPolicy
from modelyard.domain.states import RolloutState, check_transition
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id
from modelyard.registry import approvals, versions
from modelyard.store.tables.delivery import deployments, endpoints, rollouts

WARM_MS = 600_000
"""How long a replaced deployment stays warm, ready for an instant rollback."""
ACTIVE = (RolloutState.PENDING, RolloutState.STARTING, RolloutState.SHIFTING, RolloutState.PAUSED)
CHAMPION = "champion"


@dataclass(frozen=True)
class Endpoint:
    environment: str
    name: str
    model: str
    live: str | None
    previous: str | None
    warm_until: int | None
    updated_at: int

    @property
    def subject(self) -> str:
        return f"endpoint/{self.environment}/{self.name}"


@dataclass(frozen=True)
class Deployment:
    id: str
    environment: str
    endpoint: str
    model: str
    version: int
    digest: str
    created_by: str
    created_at: int
    cause: str | None
    state: str


@dataclass(frozen=True)
class Rollout:
    id: str
    environment: str
    endpoint: str
    from_deployment: str | None
    to_deployment: str
    state: RolloutState
    policy: dict[str, Any]
    step: int
    share: float
    step_started_at: int | None
    started_at: int
    ended_at: int | None
    baseline: dict[str, Any] | None
    reason: str | None
    started_by: str
    cause: str | None

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


def deploy(
    conn: Connection, project: Project, model: str, version: int, environment: str, *, actor: str, cause: str | None
) -> Rollout:
    """Place an approved version at its endpoint and begin the rollout that the environment's policy declares.

    The newest wins: a rollout under way at the endpoint is aborted. Raises Forbidden without an approval, Conflict
    when the version serves there already, NotFound for an unknown environment.
    """
    policy = project.environments.get(environment)
    if policy is None:
        known = ", ".join(sorted(project.environments))
        raise NotFound(f"There is no environment {environment!r}.", remedy=f"Environments: {known}.")
    digest = approvals.require_approved(conn, model, version, environment).digest
    if digest != versions.get(conn, model, version).digest:
        raise Conflict(
            f"{model} v{version} is not what was approved.", remedy="Register it anew and ask for approval."
        )
    endpoint = _ensure_endpoint(conn, environment, model)
    live = get(conn, endpoint.live) if endpoint.live else None
    if live is not None and live.version == version:
        raise Conflict(f"{model} v{version} serves in {environment} already.")
    under_way = active_rollout(conn, environment, model)
    if under_way is not None:
        finish(conn, under_way, RolloutState.ABORTED, f"superseded by v{version}", actor=actor, cause=cause)
    deployment = Deployment(new_id(), environment, model, model, version, digest, actor, now_ms(), cause, "starting")
    conn.execute(insert(deployments).values(**deployment.__dict__))
    data = {"environment": environment, "model": model, "version": version, "deployment": deployment.id}
    made = log.append(conn, "deployment.created", endpoint.subject, actor, data, cause=cause)
    return _start(conn, endpoint, deployment.id, msgspec.to_builtins(policy.rollout), actor=actor, cause=made.id)


def _start(
    conn: Connection, endpoint: Endpoint, to: str, policy: dict[str, Any], *, actor: str, cause: str | None
) -> Rollout:
    rollout_id = new_id()
    conn.execute(
        insert(rollouts).values(
            id=rollout_id,
            environment=endpoint.environment,
            endpoint=endpoint.name,
            from_deployment=endpoint.live,
            to_deployment=to,
            state=RolloutState.PENDING,
            policy=policy,
            step=-1,
            share=0.0,
            started_at=now_ms(),
            started_by=actor,
            cause=cause,
        )
    )
    return get_rollout(conn, rollout_id)


def move(conn: Connection, rollout: Rollout, state: RolloutState, event: str, **values: Any) -> Rollout:
    """The rollout in its next state, with the event that says so."""
    if state is not rollout.state:
        check_transition(f"The rollout at {rollout.environment}/{rollout.endpoint}", rollout.state, state)
    conn.execute(update(rollouts).where(rollouts.c.id == rollout.id).values(state=state, **values))
    target = get(conn, rollout.to_deployment)
    data = {
        "environment": rollout.environment,
        "model": target.model,
        "version": target.version,
        "rollout": rollout.id,
        "share": values.get("share", rollout.share),
        "reason": values.get("reason"),
    }
    log.append(
        conn, event, f"endpoint/{rollout.environment}/{rollout.endpoint}", "modelyard", data, cause=rollout.cause
    )
    return get_rollout(conn, rollout.id)


def complete(conn: Connection, project: Project, rollout: Rollout) -> None:
    """All traffic goes to the new deployment; the one before stays warm; in the final environment it is champion."""
    endpoint, target, now = get_endpoint(conn, rollout.environment, rollout.endpoint), rollout.to_deployment, now_ms()
    if endpoint.previous and endpoint.previous not in (endpoint.live, target):
        _retire(conn, endpoint, endpoint.previous)
    _point(conn, endpoint, live=target, previous=endpoint.live, warm_until=now + WARM_MS)
    values = {"share": 1.0, "ended_at": now}
    done = move(conn, rollout, RolloutState.COMPLETED, "rollout.completed", **values)
    if rollout.environment == project.final_environment:
        deployment = get(conn, target)
        event = log.read(conn, types=["rollout.completed"], limit=1, newest_first=True)[0]
        versions.set_alias(
            conn, deployment.model, CHAMPION, deployment.version, actor=done.started_by, cause=event.id
        )


def finish(
    conn: Connection, rollout: Rollout, state: RolloutState, reason: str, *, actor: str, cause: str | None = None
) -> None:
    """Abort a rollout: all traffic stays with, or returns to, the deployment that was live."""
    check_transition(f"The rollout at {rollout.environment}/{rollout.endpoint}", rollout.state, state)
    values = {"state": state, "reason": reason, "ended_at": now_ms(), "share": 0.0}
    conn.execute(update(rollouts).where(rollouts.c.id == rollout.id).values(**values))
    conn.execute(update(deployments).where(deployments.c.id == rollout.to_deployment).values(state="aborted"))
    target = get(conn, rollout.to_deployment)
    data = {
        "environment": rollout.environment,
        "model": target.model,
        "version": target.version,
        "rollout": rollout.id,
        "reason": reason,
    }
    subject = f"endpoint/{rollout.environment}/{rollout.endpoint}"
    log.append(conn, "rollout.aborted", subject, actor, data, cause=cause or rollout.cause)


def rollback(conn: Connection, project: Project, environment: str, name: str, reason: str, *, actor: str) -> Endpoint:
    """Traffic back to the deployment before: aborts a rollout under way, or else live and previous change places.

    Raises Conflict when there is nothing to go back to, NotFound for an unknown endpoint.
    """
    endpoint = get_endpoint(conn, environment, name)
    under_way = active_rollout(conn, environment, name)
    if under_way is not None:
        finish(conn, under_way, RolloutState.ABORTED, f"rolled back by hand: {reason}", actor=actor)
        return get_endpoint(conn, environment, name)
    if endpoint.previous is None or endpoint.live is None:
        raise Conflict(
            f"{environment}/{name} has no earlier deployment to go back to.",
            remedy="Deploy another approved version.",
        )
    before, after = get(conn, endpoint.live), get(conn, endpoint.previous)
    approvals.require_approved(conn, after.model, after.version, environment)
    _point(conn, endpoint, live=after.id, previous=before.id, warm_until=now_ms() + WARM_MS)
    data = {
        "environment": environment,
        "model": name,
        "from": before.version,
        "to": after.version,
        "reason": reason,
    }
    event = log.append(conn, "rollback.completed", endpoint.subject, actor, data)
    if environment == project.final_environment:
        versions.set_alias(conn, after.model, CHAMPION, after.version, actor=actor, cause=event.id)
    return get_endpoint(conn, environment, name)


def retire_cold(conn: Connection, endpoint: Endpoint) -> None:
    """Let go of a previous deployment whose warm time is over."""
    if endpoint.previous is not None and endpoint.warm_until is not None and endpoint.warm_until < now_ms():
        _retire(conn, endpoint, endpoint.previous)
        conn.execute(_where(endpoint).values(previous=None, warm_until=None, updated_at=now_ms()))


def find_endpoints(conn: Connection, environment: str | None = None) -> list[Endpoint]:
    query = select(endpoints).order_by(endpoints.c.environment, endpoints.c.name)
    if environment is not None:
        query = query.where(endpoints.c.environment == environment)
    return [Endpoint(**row._mapping) for row in conn.execute(query)]  # pyright: ignore[reportPrivateUsage]


def get_endpoint(conn: Connection, environment: str, name: str) -> Endpoint:
    for endpoint in find_endpoints(conn, environment):
        if endpoint.name == name:
            return endpoint
    raise NotFound(f"There is no endpoint {environment}/{name}.", remedy="List them: modelyard endpoints")


def get(conn: Connection, deployment_id: str) -> Deployment:
    row = conn.execute(select(deployments).where(deployments.c.id == deployment_id)).first()
    if row is None:
        raise NotFound(f"There is no deployment {deployment_id!r}.")
    return Deployment(**row._mapping)  # pyright: ignore[reportPrivateUsage]


def history(conn: Connection, environment: str, name: str, limit: int = 20) -> list[Rollout]:
    """The endpoint's rollouts, newest first."""
    query = select(rollouts).where(rollouts.c.environment == environment, rollouts.c.endpoint == name)
    query = query.order_by(rollouts.c.started_at.desc(), rollouts.c.id).limit(limit)
    return [_rollout(row) for row in conn.execute(query)]


def get_rollout(conn: Connection, rollout_id: str) -> Rollout:
    return _rollout(conn.execute(select(rollouts).where(rollouts.c.id == rollout_id)).one())


def active_rollout(conn: Connection, environment: str, name: str) -> Rollout | None:
    """The rollout under way at an endpoint; there is at most one."""
    where = (rollouts.c.environment == environment, rollouts.c.endpoint == name, rollouts.c.state.in_(list(ACTIVE)))
    row = conn.execute(select(rollouts).where(*where).order_by(rollouts.c.started_at.desc())).first()
    return _rollout(row) if row else None


def serves(conn: Connection, environment: str, model: str, version: int) -> bool:
    """Whether a version is live at its endpoint in an environment."""
    for endpoint in find_endpoints(conn, environment):
        if endpoint.model == model and endpoint.live is not None:
            return get(conn, endpoint.live).version == version
    return False


def _ensure_endpoint(conn: Connection, environment: str, model: str) -> Endpoint:
    for endpoint in find_endpoints(conn, environment):
        if endpoint.name == model:
            return endpoint
    values = {"environment": environment, "name": model, "model": model, "updated_at": now_ms()}
    conn.execute(insert(endpoints).values(**values))
    return get_endpoint(conn, environment, model)


def _point(conn: Connection, endpoint: Endpoint, *, live: str, previous: str | None, warm_until: int) -> None:
    values = {"live": live, "previous": previous, "warm_until": warm_until, "updated_at": now_ms()}
    conn.execute(_where(endpoint).values(**values))
    conn.execute(update(deployments).where(deployments.c.id == live).values(state="live"))
    if previous is not None:
        conn.execute(update(deployments).where(deployments.c.id == previous).values(state="warm"))


def _retire(conn: Connection, endpoint: Endpoint, deployment_id: str) -> None:
    conn.execute(update(deployments).where(deployments.c.id == deployment_id).values(state="retired"))
    found = get(conn, deployment_id)
    data = {"environment": endpoint.environment, "model": found.model, "version": found.version}
    log.append(conn, "deployment.retired", endpoint.subject, "modelyard", data, cause=found.cause)


def _where(endpoint: Endpoint) -> Any:
    return update(endpoints).where(endpoints.c.environment == endpoint.environment, endpoints.c.name == endpoint.name)


def _rollout(row: Row[Any]) -> Rollout:
    values: dict[str, Any] = dict(row._mapping)  # pyright: ignore[reportPrivateUsage]
    values["state"] = RolloutState(values["state"])
    return Rollout(**values)


def policy_of(rollout: Rollout) -> RolloutPolicy:
    """The strategy that was in force when the rollout began."""
    return msgspec.convert(rollout.policy, RolloutPolicy)
