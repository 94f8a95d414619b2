"""Endpoints, deployments and rollouts as the database holds them; `rollouts` is how they change."""

from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from modelyard.domain import environments
from modelyard.domain.environments import AbortIf
from modelyard.domain.errors import NotFound
from modelyard.domain.project import Project, RolloutPolicy
from modelyard.domain.states import RolloutState
from modelyard.store.tables.delivery import deployments, endpoints, rollouts

DEPLOY, ROLLBACK = "deploy", "rollback"
ACTIVE = (RolloutState.PENDING, RolloutState.STARTING, RolloutState.SHIFTING, RolloutState.PAUSED)


@dataclass(frozen=True)
class Endpoint:
    """`watch` is {"deployment", "since", "baseline"}: what the live deployment is judged by after its rollout;
    `rollout`, `scale`, `hosting` and `abort_if` are what was declared for this endpoint alone.
    """

    environment: str
    name: str
    model: str
    live: str | None
    previous: str | None
    warm_until: int | None
    watch: dict[str, Any] | None
    rollout: dict[str, Any] | None
    scale: dict[str, Any] | None
    hosting: dict[str, Any] | None
    abort_if: dict[str, Any] | None
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
    """`kind` is deploy or rollback; `baseline` holds the counters at the start of the step; `accept_breaking` is a
    person's word on a signature that callers must adapt to.
    """

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
    kind: str
    accept_breaking: str | None
    started_by: str
    cause: str | None

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def subject(self) -> str:
        return f"endpoint/{self.environment}/{self.endpoint}"


def find_endpoints(conn: Connection, environment: str | None = None) -> list[Endpoint]:
    query = select(endpoints).order_by(endpoints.c.environment, endpoints.c.name)
    if environment is not None:
        query = query.where(endpoints.c.environment == environment)
    return [Endpoint(**row._mapping) for row in conn.execute(query)]  # pyright: ignore[reportPrivateUsage]


def find_endpoint(conn: Connection, environment: str, name: str) -> Endpoint | None:
    query = select(endpoints).where(endpoints.c.environment == environment, endpoints.c.name == name)
    row = conn.execute(query).first()
    return Endpoint(**row._mapping) if row else None  # pyright: ignore[reportPrivateUsage]


def get_endpoint(conn: Connection, environment: str, name: str) -> Endpoint:
    found = find_endpoint(conn, environment, name)
    if found is None:
        raise NotFound(f"There is no endpoint {environment}/{name}.", remedy="List them: modelyard endpoints")
    return found


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
    row = conn.execute(select(rollouts).where(rollouts.c.id == rollout_id)).first()
    if row is None:
        raise NotFound(f"There is no rollout {rollout_id!r}.")
    return _rollout(row)


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


def proved(conn: Connection, environment: str, target: Deployment) -> bool:
    """Whether a version serves in an environment, or did until a newer one took its place, not a rollback."""
    if serves(conn, environment, target.model, target.version):
        return True
    query = select(rollouts.c.kind).join(deployments, rollouts.c.from_deployment == deployments.c.id)
    query = query.where(rollouts.c.environment == environment, rollouts.c.state == RolloutState.COMPLETED)
    query = query.where(deployments.c.model == target.model, deployments.c.digest == target.digest)
    query = query.where(deployments.c.version == target.version)
    return conn.execute(query.order_by(rollouts.c.started_at.desc()).limit(1)).scalar() == DEPLOY


def served_before(conn: Connection, endpoint: Endpoint) -> Deployment | None:
    """The newest deployment, of another version than the live one, whose rollout here was completed."""
    here = (rollouts.c.environment == endpoint.environment, rollouts.c.endpoint == endpoint.name)
    query = select(deployments).join(rollouts, rollouts.c.to_deployment == deployments.c.id)
    query = query.where(*here, rollouts.c.state == RolloutState.COMPLETED)
    if endpoint.live:
        query = query.where(deployments.c.version != get(conn, endpoint.live).version)
    row = conn.execute(query.order_by(rollouts.c.started_at.desc(), rollouts.c.id).limit(1)).first()
    return Deployment(**row._mapping) if row else None  # pyright: ignore[reportPrivateUsage]


def policy_of(rollout: Rollout) -> RolloutPolicy:
    """The strategy that was in force when the rollout began."""
    return msgspec.convert(rollout.policy, RolloutPolicy)


def policy_at(project: Project, endpoint: Endpoint) -> RolloutPolicy:
    """How the next rollout at an endpoint goes: as declared for it, or else for its environment."""
    if endpoint.rollout is not None:
        return msgspec.convert(endpoint.rollout, RolloutPolicy)
    return project.environments[endpoint.environment].rollout


def bounds_at(project: Project, endpoint: Endpoint) -> AbortIf:
    """What takes a deployment of an endpoint back: bound by bound as declared for it, or else for its environment."""
    own = msgspec.convert(endpoint.abort_if, AbortIf | None)
    return environments.bounded(project.environments[endpoint.environment].abort_if, own)


def _rollout(row: Row[Any]) -> Rollout:
    values: dict[str, Any] = dict(row._mapping)  # pyright: ignore[reportPrivateUsage]
    values["state"] = RolloutState(values["state"])
    return Rollout(**values)
