"""Rolling back while the control plane is away: on the gateway's machine, by its files alone.

The operation is written first, then the routing file that the gateway follows. The controller reads operations before
it writes any routing, checks who made each against the database, records it in the audit chain, and removes it. What
it says is "from this deployment to that one", so doing it twice, or after the server did the same, changes nothing.
"""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection

from modelyard.deliver.deployments import files, places, records, rollouts
from modelyard.domain.errors import Conflict, Forbidden, ModelyardError, NotFound, Unavailable
from modelyard.domain.permissions import Permission
from modelyard.domain.project import Project
from modelyard.events import log
from modelyard.governance import tokens
from modelyard.kit.clock import now_ms
from modelyard.kit.files import atomic_write
from modelyard.kit.ids import new_id
from modelyard.store.database import Store

FOLDER = "offline"


class Operation(msgspec.Struct, frozen=True):
    """A rollback made without the server. `away` lost the traffic, `back` has it all now."""

    id: str
    time: int
    endpoint: str
    away: list[str]
    back: str
    reason: str
    token_digest: str


def roll_back(home: Path, environment: str, name: str, reason: str, token: str) -> tuple[int | None, int]:
    """(version that lost the traffic, version that has it now), as the gateway will see within its polling time.

    Raises NotFound for an endpoint that the routing does not hold, Conflict when nothing is warm to go back to,
    Forbidden for a token that may not, Unavailable where this machine runs no gateway of the environment.
    """
    folder = places.serving(home, environment)
    try:
        routing = msgspec.json.decode((folder / "routing.json").read_bytes())
        operators = msgspec.json.decode((folder / "operators.json").read_bytes())["tokens"]
    except (OSError, msgspec.DecodeError, KeyError) as error:
        raise Unavailable(
            f"Neither the server nor the files of {environment}'s gateway are here.",
            remedy="Run this on the machine of the gateway, in the project's folder.",
        ) from error
    digest = hashlib.sha256(token.encode()).hexdigest()
    if digest not in operators:
        raise Forbidden(
            f"This token may not roll back in {environment}.", remedy="Use one of an operator or approver."
        )
    if name not in routing["endpoints"]:
        known = ", ".join(routing["endpoints"]) or "none"
        raise NotFound(f"There is no endpoint {environment}/{name}.", remedy=f"Endpoints here: {known}.")
    held: list[dict[str, Any]] = routing["endpoints"][name]["routes"]
    back, away = _turn(held, f"{environment}/{name}")
    operation = Operation(
        new_id(), now_ms(), name, [item["deployment"] for item in away], back["deployment"], reason, digest
    )
    atomic_write(folder / FOLDER / f"{operation.id}.json", msgspec.json.encode(operation), mode=0o600)
    shared = back["role"] == "live"
    for target in held:
        target["weight"] = 1.0 if target is back else 0.0
        if not shared and target["role"] != "next":  # live and previous change places
            target["role"] = "live" if target is back else "previous"
    routing["endpoints"][name]["shadow"] = []
    del routing["revision"]
    files.write_if_changed(folder / "routing.json", routing)
    return (away[0]["version"] if away else None), back["version"]


def _turn(held: list[dict[str, Any]], where: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(who gets all the traffic, who loses it): the live one when a rollout shares it, or else the one before."""
    by_role = {target["role"]: target for target in held}
    sharing = [target for target in held if target["weight"] > 0]
    coming = by_role.get("next")
    back = by_role.get("live" if coming is not None and coming in sharing else "previous")
    if back is None or (back in sharing and len(sharing) == 1):
        raise Conflict(
            f"{where} has no warm deployment to go back to.",
            remedy="Start the server (modelyard up) and deploy an approved version.",
        )
    return back, [target for target in sharing if target is not back]


def pending(home: Path, environment: str) -> list[tuple[Path, Operation]]:
    """What was done without the server and is not in its database yet, oldest first."""
    found: list[tuple[Path, Operation]] = []
    for path in (places.serving(home, environment) / FOLDER).glob("*.json"):
        try:
            found.append((path, msgspec.json.decode(path.read_bytes(), type=Operation)))
        except (OSError, msgspec.DecodeError):  # torn by a full disk: its routing was never written
            path.rename(path.with_suffix(".damaged"))
    return sorted(found, key=lambda item: item[1].time)


async def reconcile(store: Store, project: Project, home: Path, environment: str) -> None:
    """Bring what was done without the server into the database, then forget the file."""
    for path, operation in pending(home, environment):
        await store.write(lambda conn, done=operation: apply(conn, project, environment, done))
        path.unlink(missing_ok=True)


def apply(conn: Connection, project: Project, environment: str, operation: Operation) -> None:
    """Record an operation, in one transaction; what holds already, or is overtaken, changes nothing."""
    holder = tokens.principal_of(conn, operation.token_digest)
    endpoint = records.find_endpoint(conn, environment, operation.endpoint)
    actor = holder.name if holder else "nobody"
    if holder is None or not holder.may(Permission.DEPLOYMENTS_ROLLBACK, environment) or endpoint is None:
        data = {"environment": environment, "model": operation.endpoint, "reason": operation.reason}
        data["why"] = "the token that made it may not roll back here"
        log.append(conn, "rollback.refused", f"endpoint/{environment}/{operation.endpoint}", actor, data)
        return
    told: dict[str, Any] = {"operation": operation.id, "made_offline_at": operation.time}
    under_way = records.active_rollout(conn, environment, operation.endpoint)
    shared = under_way is not None and under_way.to_deployment in operation.away and operation.back == endpoint.live
    swapped = endpoint.live in operation.away and operation.back == endpoint.previous
    if not (shared or swapped):
        return
    try:
        rollouts.rollback(conn, project, environment, operation.endpoint, operation.reason, actor=actor, **told)
    except ModelyardError as error:  # the version before lost its approval meanwhile
        data = {"environment": environment, "model": endpoint.model, "reason": operation.reason, "why": str(error)}
        log.append(conn, "rollback.refused", endpoint.subject, actor, data)
