"""Taking a version back on the gateway's machine, by its files alone; what the database knows of it follows.

The operation is written first, then the routing file that the gateway follows. The controller reads operations before
it writes any routing, checks who made each against the database, records it in the audit chain, and removes it. What
it says is "from this deployment to that one", so doing it twice, or after the server did the same, changes nothing.
The server rolls back and aborts in the same order: the traffic first, then the books. The disk is waited for last: a
killed process loses nothing of what it wrote, and a power cut ends the traffic too.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection

from modelyard.deliver.deployments import files, placement, places, records, rollouts, turning
from modelyard.deliver.deployments.placement import Placed, Placement
from modelyard.deliver.deployments.turning import Route
from modelyard.deliver.serving import probe
from modelyard.domain.errors import Conflict, Forbidden, ModelyardError, NotFound
from modelyard.domain.permissions import Permission
from modelyard.domain.project import Project
from modelyard.events import log
from modelyard.governance import tokens
from modelyard.kit.clock import now_ms
from modelyard.kit.files import atomic_write, sync_file
from modelyard.kit.ids import new_id
from modelyard.store.database import Store

FOLDER = "offline"
Kind = Literal["rollback", "abort"]


class Operation(msgspec.Struct, frozen=True):
    """What the gateway follows already. `away` lost the traffic, `back` has it all now (empty: nobody)."""

    id: str
    time: int
    endpoint: str
    away: list[str]
    back: str
    reason: str
    token_digest: str
    kind: Kind = "rollback"


@dataclass(frozen=True)
class Switched:
    """An operation that the gateway has in force: the version that lost the traffic, and the one that has it now."""

    operation: Operation
    away: int | None
    back: int | None
    how: Literal["aborted", "warm"]


class Already(Conflict):
    """The version that was to get all the traffic has it."""


def take_back(
    home: Path, environment: str, name: str, reason: str, token: str, kind: Kind = "rollback", to: int | None = None
) -> tuple[int | None, int | None]:
    """(version that lost the traffic, version that has it now), without asking any server.

    to: the version that is to have all the traffic; where it has, nothing is done. Raises NotFound for an endpoint
    that the routing does not hold, Conflict when nothing is warm to go back to or no rollout is to be aborted,
    Forbidden for a token that may not or a version whose approval does not hold, Unavailable where this machine runs
    no gateway of the environment.
    """
    digest = hashlib.sha256(token.encode()).hexdigest()
    if digest not in turning.read(home, environment, "operators")["tokens"]:
        raise Forbidden(
            f"This token may not roll back in {environment}.", remedy="Use one of an operator or approver."
        )
    try:
        done = switch(home, environment, name, reason, digest, kind, to=to)
    except Already:
        return None, to
    return done.away, done.back


def switch(
    home: Path,
    environment: str,
    name: str,
    reason: str,
    digest: str,
    kind: Kind = "rollback",
    *,
    to: int | None = None,
    coming: str | None = None,
) -> Switched:
    """Give the traffic back; the gateway has that in force when this returns.

    digest: of the token whose holder may; to: the version that a rollback must lead to; coming: the deployment that
    an abort must withdraw. Raises Already, Conflict, Forbidden, NotFound, Unavailable.
    """
    folder = places.serving(home, environment)
    with files.alone(folder):
        routing = turning.read(home, environment, "routing")
        if name not in routing["endpoints"]:
            known = ", ".join(routing["endpoints"]) or "none"
            raise NotFound(f"There is no endpoint {environment}/{name}.", remedy=f"Endpoints here: {known}.")
        held: list[Route] = routing["endpoints"][name]["routes"]
        if to is not None and {route["version"] for route in held if route["weight"] > 0} == {to}:
            raise Already(f"v{to} has all the traffic of {environment}/{name} already.")
        back, away = (turning.turn if kind == "rollback" else _withdrawal)(held, f"{environment}/{name}")
        led = back["version"] if back else None
        if (to is not None and led != to) or (coming is not None and away[0]["deployment"] != coming):
            raise Conflict(f"{environment}/{name} is routed otherwise by now.", remedy="See: modelyard endpoints")
        lost = [item["deployment"] for item in away]
        left = back["deployment"] if back else ""
        operation = Operation(new_id(), now_ms(), name, lost, left, reason, digest, kind)
        atomic_write(_file(home, environment, operation), msgspec.json.encode(operation), 0o600, durable=False)
        shared = back is None or back["role"] == "live"
        for target in held:
            target["weight"] = 1.0 if target is back else 0.0
            if not shared and target["role"] != "next":  # live and previous change places
                target["role"] = "live" if target is back else "previous"
        routing["endpoints"][name] |= {"shadow": [], "rules": []}
        del routing["revision"]
        files.write_if_changed(folder / "routing.json", routing, durable=False)
    probe.nudge(str(places.admin_socket(home, environment)))
    for written in (_file(home, environment, operation), folder / "routing.json"):
        sync_file(written)
    versions = (away[0]["version"] if away else None), (back["version"] if back else None)
    return Switched(operation, *versions, "aborted" if shared else "warm")


def _file(home: Path, environment: str, operation: Operation) -> Path:
    return places.serving(home, environment) / FOLDER / f"{operation.id}.json"


def turns(home: Path, environment: str) -> int:
    """How often the routing was replaced: asked before a placement is made, it tells `publish` how old that is."""
    return files.revision(places.serving(home, environment) / "routing.json")


def publish(home: Path, wanted: Placement, ready: Callable[[Placed], bool], since: int) -> bool:
    """Bring the data plane's files in line with a placement, unless a rollback was made that it does not know of: one
    that no database has yet, or one that was recorded after `since` (`turns` before the placement was made).

    Whether that was done.
    """
    with files.alone(places.serving(home, wanted.environment)):
        if pending(home, wanted.environment) or turns(home, wanted.environment) != since:
            return False
        changed = placement.write(home, wanted, ready)
    if changed:
        probe.nudge(str(places.admin_socket(home, wanted.environment)))
    return True


def _withdrawal(held: list[Route], where: str) -> tuple[Route | None, list[Route]]:
    """(who has all the traffic after an abort, who loses it): the live one, if any, and the one on its way."""
    by_role = {target["role"]: target for target in held}
    if "next" not in by_role:
        raise Conflict(f"No rollout is under way at {where}.", remedy="See: modelyard endpoints")
    return by_role.get("live"), [by_role["next"]]


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


async def record(
    store: Store, project: Project, home: Path, environment: str, operation: Operation, way: dict[str, Any]
) -> dict[str, Any]:
    """What `apply` says of an operation just made here; `way` when another turn recorded it before.

    Raises Conflict when the database has it otherwise: then the traffic returns.
    """

    def work(conn: Connection) -> dict[str, Any]:
        told = apply(conn, project, environment, operation)
        live = records.get_endpoint(conn, environment, operation.endpoint).live or ""
        if told is None and live != operation.back:
            where = f"{environment}/{operation.endpoint}"
            raise Conflict(f"The {operation.kind} of {where} was overtaken.", remedy="See: modelyard endpoints")
        return told or way

    told = await store.write(work)
    _file(home, environment, operation).unlink(missing_ok=True)
    return told


def apply(conn: Connection, project: Project, environment: str, operation: Operation) -> dict[str, Any] | None:
    """Record an operation, in one transaction: what `rollouts.rollback` says, or of an abort the rollout's id.

    What holds already, is overtaken or refused, changes nothing (None).
    """
    if _recorded(conn, environment, operation):  # and perhaps taken back since
        return None
    holder = tokens.principal_of(conn, operation.token_digest)
    endpoint = records.find_endpoint(conn, environment, operation.endpoint)
    actor = holder.name if holder else "nobody"
    if holder is None or not holder.may(Permission.DEPLOYMENTS_ROLLBACK, environment) or endpoint is None:
        data = {"environment": environment, "model": operation.endpoint, "reason": operation.reason}
        data["why"] = "the token that made it may not roll back here"
        log.append(conn, "rollback.refused", f"endpoint/{environment}/{operation.endpoint}", actor, data)
        return None
    told: dict[str, Any] = {"operation": operation.id, "switched_at": operation.time}
    under_way = records.active_rollout(conn, environment, operation.endpoint)
    coming = under_way if under_way is not None and under_way.to_deployment in operation.away else None
    if operation.kind == "abort":
        if coming is None:
            return None
        rollouts.abort(conn, coming, f"by {actor}: {operation.reason}", actor=actor, **told)
        return {"rollout": coming.id}
    shared = coming is not None and operation.back == endpoint.live
    swapped = endpoint.live in operation.away and operation.back == endpoint.previous
    if not (shared or swapped):
        return None
    try:
        return rollouts.rollback(
            conn, project, environment, operation.endpoint, operation.reason, actor=actor, **told
        )
    except ModelyardError as error:  # the version before lost its approval meanwhile
        data = {"environment": environment, "model": endpoint.model, "reason": operation.reason, "why": str(error)}
        log.append(conn, "rollback.refused", endpoint.subject, actor, data)
        return None


def _recorded(conn: Connection, environment: str, operation: Operation) -> bool:
    """Whether an operation is among what was taken back lately."""
    subject, types = f"endpoint/{environment}/{operation.endpoint}", ("rollback.completed", "rollout.aborted")
    lately = log.read(conn, types=types, subject=subject, limit=100, newest_first=True)
    return any(event.data.get("operation") == operation.id for event in lately)
