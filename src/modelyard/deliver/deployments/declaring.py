"""What is declared for one endpoint alone: how its rollouts go, its workers where they run; and taking it away."""

from typing import Any

import msgspec
from sqlalchemy import Connection, delete, update

from modelyard.deliver.deployments import records, rollouts
from modelyard.deliver.deployments.clusters import require_ray
from modelyard.domain import environments, serving
from modelyard.domain.environments import RolloutPolicy
from modelyard.domain.errors import Invalid
from modelyard.domain.project import Project
from modelyard.domain.serving import Hosting, Scale
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.registry import approvals, models
from modelyard.store.tables.delivery import endpoints


def declare(
    conn: Connection,
    project: Project,
    environment: str,
    name: str,
    policy: RolloutPolicy | None,
    scale: Scale | None,
    hosting: Hosting | None = None,
    *,
    actor: str,
) -> None:
    """Let an endpoint's rollouts go by `policy` from the next one on, its workers by the others from now on.

    None: as its environment and its model have it. Nothing is changed where it holds already. Raises NotFound for an
    unknown environment or model, ConfigError for what could not be carried out, MissingExtra for a cluster where Ray
    is not installed, Invalid for a policy that its environment's bounds could not judge.
    """
    held = approvals.policy_of(project, environment)
    if policy is not None:
        environments.check_rollout("rollout", policy)
        if held.abort_if.reward_below_champion is not None and policy.reward is None:
            raise Invalid(
                f"{environment} has a bound on the reward, and this rollout has none.",
                remedy="Add reward = 'label', 'correct' or 'negative-error'.",
            )
    if scale is not None:
        serving.check_scale("scale", scale)
    if hosting is not None:
        serving.check_hosting("the endpoint", hosting, scale)
        if hosting.target == "ray":
            require_ray()
    models.get(conn, name)
    endpoint = rollouts.ensure_endpoint(conn, environment, name)
    wanted: dict[str, Any] = {"rollout": msgspec.to_builtins(policy), "scale": msgspec.to_builtins(scale)}
    wanted["hosting"] = msgspec.to_builtins(hosting)
    before = {"rollout": endpoint.rollout, "scale": endpoint.scale, "hosting": endpoint.hosting}
    if before == wanted:
        return
    conn.execute(_where(update(endpoints), environment, name).values(**wanted, updated_at=now_ms()))
    data = {"environment": environment, "model": name, "before": before, "after": wanted}
    log.append(conn, "endpoint.changed", endpoint.subject, actor, data)


def remove(conn: Connection, environment: str, name: str, reason: str, *, actor: str) -> None:
    """Take an endpoint away: no request is answered there any more, and its workers stop. Raises NotFound.

    Its history stays, and an approved version makes it again.
    """
    endpoint = records.get_endpoint(conn, environment, name)
    under_way = records.active_rollout(conn, environment, name)
    if under_way is not None:
        rollouts.abort(conn, under_way, f"the endpoint was removed: {reason}", actor=actor)
    for deployment in (endpoint.live, endpoint.previous):
        if deployment is not None:
            rollouts.retire(conn, endpoint, deployment)
    conn.execute(_where(delete(endpoints), environment, name))
    data = {"environment": environment, "model": endpoint.model, "reason": reason}
    log.append(conn, "endpoint.removed", endpoint.subject, actor, data)


def _where(statement: Any, environment: str, name: str) -> Any:
    return statement.where(endpoints.c.environment == environment, endpoints.c.name == name)
