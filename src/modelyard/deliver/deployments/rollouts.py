"""How deployments, rollouts and endpoints change: one transaction each, with the event that says so.

A caller hands over the rollout as it saw it; when that moved on meanwhile (a person aborted it), nothing is changed
and Conflict says so, so that a controller that acts on old knowledge does no harm.
"""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, insert, update

from modelyard.deliver.deployments import records
from modelyard.deliver.deployments.records import Deployment, Endpoint, Rollout
from modelyard.domain import freezes
from modelyard.domain.errors import Conflict
from modelyard.domain.project import Project, RolloutPolicy, seconds
from modelyard.domain.states import RolloutState, check_transition
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id
from modelyard.registry import approvals, versions
from modelyard.registry.approvals import Approval
from modelyard.store.tables import delivery as tables

PLATFORM = "modelyard"


def deploy(
    conn: Connection,
    project: Project,
    model: str,
    version: int,
    environment: str,
    *,
    actor: str,
    cause: str | None,
    accept_breaking: str | None = None,
) -> Rollout:
    """Place an approved version at its endpoint and begin the rollout that the environment's policy declares.

    The newest wins: a rollout under way at the endpoint is aborted. Raises Forbidden without an approval, Conflict
    when the version serves there already or is on its way, NotFound for an unknown environment.
    """
    approvals.policy_of(project, environment)
    approval = approvals.require_approved(conn, model, version, environment)
    endpoint = ensure_endpoint(conn, environment, model)
    live = records.get(conn, endpoint.live) if endpoint.live else None
    if live is not None and live.version == version:
        raise Conflict(f"{model} v{version} serves in {environment} already.")
    under_way = records.active_rollout(conn, environment, model)
    if under_way is not None:
        going = records.get(conn, under_way.to_deployment)
        if going.version == version and (accept_breaking is None or under_way.accept_breaking is not None):
            raise Conflict(
                f"{model} v{version} is on its way to {environment} already.", remedy="Follow it: modelyard endpoints"
            )
        abort(conn, under_way, f"superseded by v{version}", actor=actor, cause=cause)
    made = _place(conn, endpoint, approval, actor=actor, cause=cause)
    return _start(conn, endpoint, made, records.policy_at(project, endpoint), records.DEPLOY, actor, accept_breaking)


def move(
    conn: Connection,
    seen: Rollout,
    state: RolloutState,
    event: str,
    *,
    actor: str = PLATFORM,
    told: dict[str, Any] | None = None,
    **values: Any,
) -> log.Event:
    """Bring a rollout into its next state; `told` is said by the event alone.

    Raises Conflict when it is not what the caller saw.
    """
    rollout = _current(conn, seen)
    if state is not rollout.state:
        check_transition(f"The rollout at {rollout.environment}/{rollout.endpoint}", rollout.state, state)
    conn.execute(update(tables.rollouts).where(tables.rollouts.c.id == rollout.id).values(state=state, **values))
    data = _told(conn, rollout) | {"share": values.get("share", rollout.share), "reason": values.get("reason")}
    data |= told or {}
    return log.append(conn, event, rollout.subject, actor, data, cause=rollout.cause)


def note(conn: Connection, seen: Rollout, reason: str | None) -> None:
    """Say why a rollout waits, without an event; nothing is changed when it moved on."""
    where = (tables.rollouts.c.id == seen.id, tables.rollouts.c.state == seen.state)
    conn.execute(update(tables.rollouts).where(*where).values(reason=reason))


def begin_step_again(conn: Connection, seen: Rollout, baseline: dict[str, Any] | None) -> None:
    """Give a step its whole time anew, without an event: what was to be seen of it was not.

    Raises Conflict when the rollout moved on meanwhile.
    """
    rollout = _current(conn, seen)
    values = {"step_started_at": now_ms(), "baseline": baseline}
    conn.execute(update(tables.rollouts).where(tables.rollouts.c.id == rollout.id).values(**values))


def complete(
    conn: Connection,
    project: Project,
    seen: Rollout,
    *,
    actor: str = PLATFORM,
    why: str | None = None,
    told: dict[str, Any] | None = None,
) -> None:
    """All traffic goes to the new deployment; the one before stays warm, and the new one is watched as long.

    In the final environment the version becomes champion.
    """
    endpoint = records.get_endpoint(conn, seen.environment, seen.endpoint)
    now, target = now_ms(), seen.to_deployment
    values: dict[str, Any] = {"share": 1.0, "ended_at": now, "reason": None}
    said = (told or {}) | ({"why": why} if why else {})
    event = move(conn, seen, RolloutState.COMPLETED, "rollout.completed", actor=actor, told=said, **values)
    if endpoint.previous and endpoint.previous not in (endpoint.live, target):
        retire(conn, endpoint, endpoint.previous)
    warm_until = now + warm_ms(records.policy_of(seen))
    watch = {"deployment": target, "since": now, "baseline": None}
    _point(conn, endpoint, target, endpoint.live, warm_until, watch if endpoint.live else None)
    _crown(conn, project, records.get(conn, target), actor=seen.started_by, cause=event.id)


def pause(conn: Connection, seen: Rollout, *, actor: str, reason: str) -> None:
    """Hold a rollout where it is, on a person's word. Raises Conflict for one that is paused already."""
    if seen.state is RolloutState.PAUSED:
        raise Conflict(f"The rollout is paused already: {seen.reason}", remedy="See: modelyard endpoints")
    move(conn, seen, RolloutState.PAUSED, "rollout.paused", actor=actor, reason=f"by {actor}: {reason}")


def resume(conn: Connection, seen: Rollout, *, actor: str, reason: str) -> None:
    """Let a paused rollout go on with its step: its time, rewards and predictions count from here.

    Raises Conflict for one that is not paused.
    """
    if seen.state is not RolloutState.PAUSED:
        raise Conflict(f"The rollout is {seen.state}, not paused.", remedy="See: modelyard endpoints")
    values = {"reason": None, "step_started_at": now_ms()}
    move(conn, seen, RolloutState.SHIFTING, "rollout.resumed", actor=actor, told={"why": reason}, **values)


def promote(conn: Connection, project: Project, seen: Rollout, *, actor: str, reason: str) -> None:
    """Complete a rollout now, on a person's word.

    Raises Conflict while its worker is not warm, and in a freeze window, unless it has all the traffic already.
    """
    if seen.state not in (RolloutState.SHIFTING, RolloutState.PAUSED):
        raise Conflict(
            f"The rollout is {seen.state}: its worker has not answered yet, nothing can be promoted.",
            remedy="Wait until it shifts traffic: modelyard endpoints",
        )
    declared = project.environments.get(seen.environment)
    until = freezes.frozen_until(declared.freeze, now_ms()) if declared else None
    if until is not None and seen.share < 1:
        raise Conflict(
            f"{seen.environment} is frozen until {until:%Y-%m-%d %H:%M} UTC: no rollout widens before.",
            remedy="Wait, abort it, or change freeze in modelyard.toml and say: modelyard reload",
        )
    complete(conn, project, seen, actor=actor, why=reason)


def abort(
    conn: Connection, seen: Rollout, reason: str, *, actor: str = PLATFORM, cause: str | None = None, **more: Any
) -> None:
    """End a rollout: all traffic stays with, or returns to, the deployment that was live."""
    rollout = _current(conn, seen)
    check_transition(f"The rollout at {rollout.environment}/{rollout.endpoint}", rollout.state, RolloutState.ABORTED)
    values = {"state": RolloutState.ABORTED, "reason": reason, "ended_at": now_ms(), "share": 0.0}
    conn.execute(update(tables.rollouts).where(tables.rollouts.c.id == rollout.id).values(**values))
    _set_state(conn, rollout.to_deployment, "aborted")
    data = _told(conn, rollout) | {"reason": reason, **more}
    log.append(conn, "rollout.aborted", rollout.subject, actor, data, cause=cause or rollout.cause)


@dataclass(frozen=True)
class WayBack:
    """What a rollback does now. how: aborted (the rollout under way had the traffic), warm, cold."""

    how: Literal["aborted", "warm", "cold"]
    away: Deployment
    to: Deployment | None
    under_way: Rollout | None

    @property
    def told(self) -> dict[str, Any]:
        place = {"environment": self.away.environment, "model": self.away.model}
        return place | {"from": self.away.version, "to": self.to.version if self.to else None, "how": self.how}


def way_back(conn: Connection, environment: str, name: str) -> WayBack:
    """Where a rollback leads. Raises Conflict when there is nothing to go back to, Forbidden when the version before
    lost its approval, NotFound for an unknown endpoint.
    """
    endpoint = records.get_endpoint(conn, environment, name)
    live = records.get(conn, endpoint.live) if endpoint.live else None
    under_way = records.active_rollout(conn, environment, name)
    if under_way is not None and (under_way.share > 0 or endpoint.previous is None):
        return WayBack("aborted", records.get(conn, under_way.to_deployment), live, under_way)
    target = records.get(conn, endpoint.previous) if endpoint.previous else records.served_before(conn, endpoint)
    if target is None or live is None:
        raise Conflict(
            f"{environment}/{name} has no earlier deployment to go back to.",
            remedy="Deploy another approved version.",
        )
    approvals.require_approved(conn, target.model, target.version, environment)
    return WayBack("warm" if endpoint.previous else "cold", live, target, under_way)


def rollback(
    conn: Connection,
    project: Project,
    environment: str,
    name: str,
    reason: str,
    *,
    actor: str,
    cause: str | None = None,
    away: str | None = None,
    to: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Traffic back to the deployment before: {"environment", "model", "from", "to", "how"}.

    away: the deployment that the caller saw live; when another one is by now, nothing is changed (Conflict). to: the
    version that it wants back; where that has all the traffic, nothing is changed ("already"), nor where a rollback
    leads elsewhere by now (Conflict).
    A rollout under way is aborted; if it had traffic, that is the rollback ("aborted"). Otherwise live and previous
    change places ("warm"); or, when the previous one is no longer warm, the last good version is deployed at once
    ("cold"). Raises as `way_back` does.
    """
    endpoint = records.get_endpoint(conn, environment, name)
    if away is not None and endpoint.live != away:
        raise Conflict(f"{environment}/{name} serves another deployment by now.", remedy="See: modelyard endpoints")
    live, under_way = endpoint.live, records.active_rollout(conn, environment, name)
    if to is not None and live and records.get(conn, live).version == to and not (under_way and under_way.share > 0):
        place = {"environment": environment, "model": endpoint.model, "reason": reason}
        return place | {"from": None, "to": to, "how": "already"}
    way = way_back(conn, environment, name)
    if to is not None and (way.to is None or way.to.version != to):
        leads = f"v{way.to.version}" if way.to else "no version"
        raise Conflict(
            f"A rollback of {environment}/{name} leads to {leads} by now.", remedy="See: modelyard endpoints"
        )
    told: dict[str, Any] = way.told | {"reason": reason, **more}
    if way.under_way is not None:
        abort(conn, way.under_way, f"rolled back: {reason}", actor=actor, cause=cause, **more)
    if way.how == "aborted" or way.to is None:
        return told
    policy = records.policy_at(project, endpoint)
    if way.how == "cold":
        approval = approvals.require_approved(conn, way.to.model, way.to.version, environment)
        made = _place(conn, endpoint, approval, actor=actor, cause=cause, rollback=reason)
        _start(conn, endpoint, made, RolloutPolicy(warm=policy.warm), records.ROLLBACK, actor, reason)
        return told
    _point(conn, endpoint, way.to.id, way.away.id, now_ms() + warm_ms(policy), None)
    event = log.append(conn, "rollback.completed", endpoint.subject, actor, told, cause=cause)
    _crown(conn, project, way.to, actor=actor, cause=event.id)
    return told


def retire_cold(conn: Connection, seen: Endpoint) -> None:
    """Let go of a previous deployment whose warm time is over."""
    endpoint = records.get_endpoint(conn, seen.environment, seen.name)
    if endpoint.previous is None or endpoint.warm_until is None or endpoint.warm_until >= now_ms():
        return
    retire(conn, endpoint, endpoint.previous)
    conn.execute(_at(endpoint).values(previous=None, warm_until=None, watch=None, updated_at=now_ms()))


def set_watch(conn: Connection, seen: Endpoint, baseline: dict[str, Any]) -> None:
    """Note from which counters on the live deployment is judged; nothing is changed when another one is live."""
    endpoint = records.get_endpoint(conn, seen.environment, seen.name)
    if endpoint.watch is not None and endpoint.watch == seen.watch:
        conn.execute(_at(endpoint).values(watch={**endpoint.watch, "baseline": baseline}))


def warm_ms(policy: RolloutPolicy) -> int:
    return int(seconds(policy.warm) * 1000)


def _current(conn: Connection, seen: Rollout) -> Rollout:
    """The rollout as it is, if it is where the caller saw it."""
    rollout = records.get_rollout(conn, seen.id)
    if (rollout.state, rollout.step) != (seen.state, seen.step):
        raise Conflict(
            f"The rollout at {rollout.environment}/{rollout.endpoint} is {rollout.state} by now.",
            remedy="See: modelyard endpoints",
        )
    return rollout


def _place(
    conn: Connection, endpoint: Endpoint, approval: Approval, *, actor: str, cause: str | None, **more: Any
) -> Deployment:
    """A new deployment of what was approved, with where it comes from."""
    number = approval.version
    made = Deployment(
        new_id(),
        endpoint.environment,
        endpoint.name,
        endpoint.model,
        number,
        approval.digest,
        actor,
        now_ms(),
        cause,
        "starting",
    )
    conn.execute(insert(tables.deployments).values(**made.__dict__))
    data = {"environment": endpoint.environment, "model": endpoint.model, "version": number, "deployment": made.id}
    data |= {"digest": approval.digest, "approval": approval.id, "approved": approval.how, **more}
    event = log.append(conn, "deployment.created", endpoint.subject, actor, data, cause=cause)
    conn.execute(update(tables.deployments).where(tables.deployments.c.id == made.id).values(cause=event.id))
    return records.get(conn, made.id)


def _start(
    conn: Connection,
    endpoint: Endpoint,
    to: Deployment,
    policy: RolloutPolicy,
    kind: str,
    actor: str,
    accept_breaking: str | None,
) -> Rollout:
    rollout_id = new_id()
    conn.execute(
        insert(tables.rollouts).values(
            id=rollout_id,
            environment=endpoint.environment,
            endpoint=endpoint.name,
            from_deployment=endpoint.live,
            to_deployment=to.id,
            state=RolloutState.PENDING,
            policy=msgspec.to_builtins(policy),
            step=-1,
            share=0.0,
            started_at=now_ms(),
            kind=kind,
            accept_breaking=accept_breaking,
            started_by=actor,
            cause=to.cause,
        )
    )
    return records.get_rollout(conn, rollout_id)


def ensure_endpoint(conn: Connection, environment: str, model: str) -> Endpoint:
    """The model's endpoint in an environment, made if need be."""
    found = records.find_endpoint(conn, environment, model)
    if found is None:
        values = {"environment": environment, "name": model, "model": model, "updated_at": now_ms()}
        conn.execute(insert(tables.endpoints).values(**values))
    return found or records.get_endpoint(conn, environment, model)


def _point(
    conn: Connection,
    endpoint: Endpoint,
    live: str,
    previous: str | None,
    warm_until: int,
    watch: dict[str, Any] | None,
) -> None:
    values: dict[str, Any] = {"live": live, "previous": previous, "watch": watch, "updated_at": now_ms()}
    values["warm_until"] = warm_until if previous else None
    conn.execute(_at(endpoint).values(**values))
    _set_state(conn, live, "live")
    if previous is not None:
        _set_state(conn, previous, "warm")


def _crown(conn: Connection, project: Project, target: Deployment, *, actor: str, cause: str) -> None:
    if target.environment == project.final_environment:
        versions.set_alias(conn, target.model, versions.CHAMPION, target.version, actor=actor, cause=cause)


def retire(conn: Connection, endpoint: Endpoint, deployment_id: str) -> None:
    """Let go of a deployment: its workers are stopped."""
    _set_state(conn, deployment_id, "retired")
    found = records.get(conn, deployment_id)
    data = {"environment": endpoint.environment, "model": found.model, "version": found.version}
    log.append(conn, "deployment.retired", endpoint.subject, PLATFORM, data, cause=found.cause)


def _set_state(conn: Connection, deployment_id: str, state: str) -> None:
    conn.execute(update(tables.deployments).where(tables.deployments.c.id == deployment_id).values(state=state))


def _told(conn: Connection, rollout: Rollout) -> dict[str, Any]:
    """What every event of a rollout says."""
    target = records.get(conn, rollout.to_deployment)
    return {
        "environment": rollout.environment,
        "model": target.model,
        "version": target.version,
        "rollout": rollout.id,
    }


def _at(endpoint: Endpoint) -> Any:
    table = tables.endpoints
    return update(table).where(table.c.environment == endpoint.environment, table.c.name == endpoint.name)
