"""From the database to the data plane's files: who serves, where requests go, who may ask and who may roll back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from modelyard.deliver.deployments import files, places, records
from modelyard.deliver.deployments.records import Deployment, Endpoint, Rollout
from modelyard.domain.permissions import Permission
from modelyard.domain.states import RolloutState
from modelyard.governance import tokens
from modelyard.registry import versions

MOVING = (RolloutState.SHIFTING, RolloutState.PAUSED)


@dataclass(frozen=True)
class Wanted:
    """One environment as the database has it. `invokers` and `operators` are {token digest: principal}."""

    environment: str
    endpoints: list[tuple[Endpoint, Rollout | None]]
    deployments: dict[str, Deployment]
    manifests: dict[str, list[versions.ManifestFile]]
    invokers: dict[str, str]
    operators: dict[str, str]


def read(conn: Connection, environment: str) -> Wanted:
    found = [
        (endpoint, records.active_rollout(conn, environment, endpoint.name))
        for endpoint in records.find_endpoints(conn, environment)
    ]
    wanted: set[str] = set()
    for endpoint, rollout in found:
        named = (endpoint.live, endpoint.previous, rollout.to_deployment if rollout else None)
        wanted |= {item for item in named if item}
    held = {deployment: records.get(conn, deployment) for deployment in sorted(wanted)}
    manifests = {item.id: versions.files(conn, item.model, item.version) for item in held.values()}
    invokers = tokens.invokers(conn, environment)
    operators = tokens.holders(conn, Permission.DEPLOYMENTS_ROLLBACK, environment)
    return Wanted(environment, found, held, manifests, invokers, operators)


def write(home: Path, wanted: Wanted, ready: Callable[[Deployment], bool]) -> None:
    """Replace the files that differ. A deployment whose model folder is not `ready` gets no worker yet."""
    environment = wanted.environment
    folder = places.serving(home, environment)
    specs = [
        files.worker_spec(
            home, environment, item.id, item.model, item.version, item.digest, wanted.manifests[item.id]
        )
        for item in wanted.deployments.values()
        if ready(item)
    ]
    files.write_if_changed(folder / "desired.json", {"environment": environment, "workers": specs})
    routed = {
        endpoint.name: routes(home, environment, endpoint, rollout, wanted.deployments)
        for endpoint, rollout in wanted.endpoints
    }
    routing = {"environment": environment, "tokens": wanted.invokers, "endpoints": routed}
    files.write_if_changed(folder / "routing.json", routing)
    files.write_if_changed(folder / "operators.json", {"tokens": wanted.operators})


def routes(
    home: Path, environment: str, endpoint: Endpoint, rollout: Rollout | None, held: dict[str, Deployment]
) -> dict[str, Any]:
    """An endpoint of the routing file; `role` is read by who rolls back without the server, not by the gateway."""
    moving = rollout is not None and rollout.state in MOVING
    moved = rollout.share if rollout is not None and moving else 0.0
    weights: dict[str, tuple[str, float]] = {}
    if endpoint.previous:
        weights[endpoint.previous] = ("previous", 0.0)
    if rollout is not None:
        weights[rollout.to_deployment] = ("next", moved)
    if endpoint.live:
        weights[endpoint.live] = ("live", 1.0 - moved)
    targets = {
        deployment: {
            "deployment": deployment,
            "version": held[deployment].version,
            "role": role,
            "weight": weight,
            "sockets": [str(places.worker_socket(home, deployment))],
        }
        for deployment, (role, weight) in weights.items()
    }
    mirrored = rollout is not None and moving and records.policy_of(rollout).strategy == "shadow" and moved == 0
    shadow = [targets[rollout.to_deployment]] if rollout is not None and mirrored else []
    log = {"folder": str(places.predictions(home, environment, endpoint.name))}
    return {"model": endpoint.model, "routes": list(targets.values()), "shadow": shadow, "log": log}
