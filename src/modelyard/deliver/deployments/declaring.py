"""What is declared for one endpoint alone: how its rollouts go and what takes a deployment back, its workers where
they run; and taking it away.
"""

from typing import Any

import msgspec
from sqlalchemy import Connection, delete, update

from modelyard.deliver.deployments import records, rollouts
from modelyard.deliver.deployments.clusters import require_ray
from modelyard.domain import environments, serving
from modelyard.domain.environments import AbortIf, RolloutPolicy
from modelyard.domain.errors import Invalid
from modelyard.domain.project import Project
from modelyard.domain.serving import Hosting, Scale
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.registry import approvals, models
from modelyard.store.tables.delivery import endpoints


class Declared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an endpoint's rollouts go from the next one on; what takes a deployment back, its workers by load and
    where they run from now on. None, and a bound that is left out: as its environment and its model have it.
    """

    rollout: RolloutPolicy | None
    scale: Scale | None = None
    hosting: Hosting | None = None
    abort_if: AbortIf | None = None


def declare(conn: Connection, project: Project, environment: str, name: str, said: Declared, *, actor: str) -> None:
    """Let an endpoint go by what is said of it; nothing is changed where it holds already.

    Raises NotFound for an unknown environment or model, ConfigError for what could not be carried out, MissingExtra
    for a cluster where Ray is not installed, Invalid for a bound on a reward that its rollouts do not measure.
    """
    _check(project, environment, name, said)
    models.get(conn, name)
    endpoint = rollouts.ensure_endpoint(conn, environment, name)
    wanted: dict[str, Any] = msgspec.to_builtins(said)
    before = {key: getattr(endpoint, key) for key in wanted}
    if before == wanted:
        return
    conn.execute(_where(update(endpoints), environment, name).values(**wanted, updated_at=now_ms()))
    data = {"environment": environment, "model": name, "before": before, "after": wanted}
    log.append(conn, "endpoint.changed", endpoint.subject, actor, data)


def _check(project: Project, environment: str, name: str, said: Declared) -> None:
    around = approvals.policy_of(project, environment)
    if said.rollout is not None:
        environments.check_rollout("rollout", said.rollout)
    if said.abort_if is not None:
        environments.check_bounds("abort_if", said.abort_if)
    bounds, policy = environments.bounded(around.abort_if, said.abort_if), said.rollout or around.rollout
    if bounds.reward_below_champion is not None and policy.reward is None:
        raise Invalid(
            f"{environment}/{name} has a bound on the reward, and its rollouts measure none.",
            remedy="Add reward = 'label', 'correct' or 'negative-error' to its rollout.",
        )
    if said.scale is not None:
        serving.check_scale("scale", said.scale)
    if said.hosting is not None:
        serving.check_hosting("the endpoint", said.hosting, said.scale)
        if said.hosting.target == "ray":
            require_ray()


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
