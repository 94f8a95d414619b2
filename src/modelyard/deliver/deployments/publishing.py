"""From the database to a placement: who serves, where requests go, who may ask and who may roll back."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection

from modelyard.deliver.deployments import records
from modelyard.deliver.deployments.placement import Placed, PlacedEndpoint, Placement, Route
from modelyard.deliver.deployments.records import Deployment, Endpoint, Rollout
from modelyard.domain.environments import Environment
from modelyard.domain.permissions import Permission
from modelyard.domain.project import Model, Project
from modelyard.domain.serving import Hosting, Scale, Serving
from modelyard.domain.states import RolloutState
from modelyard.governance import tokens
from modelyard.registry import approvals, versions

MOVING = (RolloutState.SHIFTING, RolloutState.PAUSED)


@dataclass(frozen=True)
class Wanted:
    """One environment as the database has it, and the placement that follows from it."""

    endpoints: list[tuple[Endpoint, Rollout | None]]
    deployments: dict[str, Deployment]
    placement: Placement


def read(conn: Connection, environment: str, project: Project | None = None) -> Wanted:
    """What the database wants of an environment; the project declares where and how each model is served."""
    declared = project.models if project is not None else {}
    around = project.environments[environment] if project is not None else Environment()
    found = [
        (endpoint, records.active_rollout(conn, environment, endpoint.name))
        for endpoint in records.find_endpoints(conn, environment)
    ]
    wanted: set[str] = set()
    for endpoint, rollout in found:
        named = (endpoint.live, endpoint.previous, rollout.to_deployment if rollout else None)
        wanted |= {item for item in named if item}
    held = {deployment: records.get(conn, deployment) for deployment in sorted(wanted)}
    previous = [held[endpoint.previous] for endpoint, _ in found if endpoint.previous]
    approved = [d for d in previous if approvals.approved(conn, d.model, d.version, environment) is not None]
    placed = {
        item.id: Placed(
            item.id, item.model, item.version, item.digest, versions.files(conn, item.model, item.version)
        )
        for item in held.values()
    }
    invokers = tokens.invokers(conn, environment)
    labelers = tokens.holders(conn, Permission.PREDICTIONS_LABEL, environment)
    placement = Placement(
        environment,
        {
            endpoint.name: msgspec.structs.replace(
                routes(endpoint, rollout, held.get(endpoint.previous or "") in approved),
                serving=serving_of(endpoint, declared),
                ray=_cluster(endpoint, around),
                task=declared[endpoint.model].task if endpoint.model in declared else "",
            )
            for endpoint, rollout in found
        },
        placed,
        invokers,
        tokens.holders(conn, Permission.DEPLOYMENTS_ROLLBACK, environment),
        labelers,
        sorted(tokens.lasting(conn) - invokers.keys() - labelers.keys()),
    )
    return Wanted(found, held, placement)


def serving_of(endpoint: Endpoint, declared: Mapping[str, Model]) -> Serving:
    """How an endpoint is served: as its model declares, but for what is declared for its own workers."""
    held = declared[endpoint.model].serving if endpoint.model in declared else Serving()
    own = {name: value for name, value in (endpoint.hosting or {}).items() if value is not None}
    own = {name: own[name] for name in ("workers", "cpus", "memory_mb") if name in own}
    if endpoint.scale is not None or "workers" in own:
        own["scale"] = msgspec.convert(endpoint.scale, Scale | None)
    return msgspec.structs.replace(held, **own)


def _cluster(endpoint: Endpoint, around: Environment) -> str | None:
    """The Ray cluster of an endpoint's workers, empty for this machine's; None where they run beside the gateway."""
    own = msgspec.convert(endpoint.hosting or {}, Hosting)
    return (own.ray or around.ray) if (own.target or around.target) == "ray" else None


def routes(endpoint: Endpoint, rollout: Rollout | None, approved: bool = True) -> PlacedEndpoint:
    """Who gets which share of an endpoint's traffic now; `approved`: whether the one before still is."""
    moving = rollout is not None and rollout.state in MOVING
    moved = rollout.share if rollout is not None and moving else 0.0
    found: dict[str, Route] = {}
    if endpoint.previous:
        found[endpoint.previous] = Route(endpoint.previous, "previous", 0.0, approved)
    if rollout is not None:
        found[rollout.to_deployment] = Route(rollout.to_deployment, "next", moved)
    if endpoint.live:
        found[endpoint.live] = Route(endpoint.live, "live", 1.0 - moved)
    mirrored = rollout is not None and moving and records.policy_of(rollout).strategy == "shadow" and moved == 0
    shadow = [rollout.to_deployment] if rollout is not None and mirrored else []
    return PlacedEndpoint(endpoint.model, list(found.values()), shadow)
