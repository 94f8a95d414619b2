"""Approvals: recorded decisions on a version for an environment, bound to its digest and evidence."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from modelyard.domain.errors import Conflict, Forbidden, Invalid, NotFound
from modelyard.domain.permissions import Permission, Principal, Role
from modelyard.domain.project import Environment, Project
from modelyard.domain.states import ApprovalState, VersionState
from modelyard.events import log
from modelyard.governance import principals
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id
from modelyard.registry import evidence, gates, versions
from modelyard.registry.versions import Version
from modelyard.store.tables.registry import approvals, decisions

POLICY = "modelyard"
"""The actor of decisions that a declared policy makes."""


@dataclass(frozen=True)
class Decision:
    principal: str
    verdict: str
    comment: str
    decided_at: int


@dataclass(frozen=True)
class Approval:
    """A request for a decision, and the decisions so far."""

    id: str
    model: str
    version: int
    environment: str
    state: str
    digest: str
    evidence_digest: str
    requested_by: str
    requested_at: int
    closed_at: int | None
    event_id: str | None
    decisions: tuple[Decision, ...] = ()


def request_all(conn: Connection, project: Project, version: Version, cause: str) -> None:
    """Ask for what every environment's policy wants, now that the gates passed."""
    for environment, policy in project.environments.items():
        _request(conn, version, environment, policy, cause)


def void_all(conn: Connection, version: Version, reason: str, cause: str | None) -> None:
    """End every open or given approval of a version, because what it was bound to changed."""
    states = [ApprovalState.OPEN, ApprovalState.APPROVED]
    where = (
        approvals.c.model == version.model,
        approvals.c.version == version.version,
        approvals.c.state.in_(states),
    )
    for row in conn.execute(select(approvals).where(*where)).all():
        conn.execute(
            update(approvals).where(approvals.c.id == row.id).values(state=ApprovalState.VOID, closed_at=now_ms())
        )
        versions.set_state(conn, version.model, version.version, row.environment, VersionState.CANDIDATE)
        data = {"model": version.model, "version": version.version, "environment": row.environment, "reason": reason}
        log.append(conn, "approval.voided", version.subject, POLICY, data, cause=cause)


def decide(
    conn: Connection,
    project: Project,
    name: str,
    number: int,
    environment: str,
    verdict: str,
    comment: str,
    principal: Principal,
) -> Approval:
    """The approval after this decision; every rule is checked in the transaction that records it.

    Raises Forbidden (role, separation of duties), Conflict (nothing open, gates, changed evidence), Invalid.
    """
    version = versions.get(conn, name, number)
    policy = project.environments.get(environment)
    if policy is None:
        known = ", ".join(sorted(project.environments))
        raise NotFound(f"There is no environment {environment!r}.", remedy=f"Environments: {known}.")
    if verdict not in ("approve", "reject"):
        raise Invalid(f"{verdict!r} is not a verdict.", remedy="Say approve or reject.")
    if not comment.strip():
        raise Invalid("A decision needs a reason.", remedy='Give one: -m "why".')
    _check_right(principal, policy, environment)
    if verdict == "approve":
        _check_separation(conn, version, policy, principal)
    request = _open_request(conn, version, environment)
    if request.digest != version.digest or request.evidence_digest != evidence.whole_digest(conn, name, number):
        void_all(conn, version, "the evidence changed after the request", request.event_id)
        raise Conflict(
            f"{name} v{number} changed after approval was asked.", remedy="Look at the new evidence; ask again."
        )
    if any(decision.principal == principal.name for decision in request.decisions):
        raise Conflict(f"{principal.name} decided on this already.", remedy="Another approver must decide.")
    conn.execute(
        insert(decisions).values(
            id=new_id(),
            approval_id=request.id,
            principal=principal.name,
            verdict=verdict,
            comment=comment.strip(),
            decided_at=now_ms(),
        )
    )
    given = 1 + sum(decision.verdict == "approve" for decision in request.decisions)
    if verdict == "reject":
        _close(conn, version, request, ApprovalState.REJECTED, principal.name, comment)
    elif given >= policy.approvals:
        _close(conn, version, request, ApprovalState.APPROVED, principal.name, comment)
    return get(conn, request.id)


def approved_digest(conn: Connection, name: str, number: int, environment: str) -> str | None:
    """The manifest digest that holds an approval for an environment; None when there is none (any more)."""
    where = (approvals.c.model == name, approvals.c.version == number, approvals.c.environment == environment)
    query = select(approvals.c.digest).where(*where, approvals.c.state == ApprovalState.APPROVED)
    return conn.execute(query.order_by(approvals.c.requested_at.desc()).limit(1)).scalar()


def require_approved(conn: Connection, name: str, number: int, environment: str) -> str:
    """The approved digest. Raises Forbidden that says whom to ask."""
    digest = approved_digest(conn, name, number, environment)
    if digest is None:
        versions.get(conn, name, number)
        raise Forbidden(
            f"{name} v{number} has no approval for {environment}.",
            remedy=f'Ask an approver: modelyard approve {name}/{number} --to {environment} -m "why"',
        )
    return digest


def get(conn: Connection, approval_id: str) -> Approval:
    row = conn.execute(select(approvals).where(approvals.c.id == approval_id)).first()
    if row is None:
        raise NotFound(f"There is no approval {approval_id!r}.")
    return _approval(conn, row)


def find(
    conn: Connection, name: str | None = None, number: int | None = None, state: ApprovalState | None = None
) -> list[Approval]:
    """Approvals, newest request first."""
    query = select(approvals)
    for column, value in ((approvals.c.model, name), (approvals.c.version, number), (approvals.c.state, state)):
        if value is not None:
            query = query.where(column == value)
    rows = conn.execute(query.order_by(approvals.c.requested_at.desc(), approvals.c.id)).all()
    return [_approval(conn, row) for row in rows]


def _request(conn: Connection, version: Version, environment: str, policy: Environment, cause: str) -> None:
    name, number = version.model, version.version
    if versions.state(conn, name, number, environment) in (VersionState.PENDING, VersionState.APPROVED):
        return
    values: dict[str, Any] = {
        "id": new_id(),
        "model": name,
        "version": number,
        "environment": environment,
        "state": ApprovalState.OPEN,
        "digest": version.digest,
        "evidence_digest": evidence.whole_digest(conn, name, number),
        "requested_by": version.registrar,
        "requested_at": now_ms(),
    }
    by_gates = policy.approval == "gates"
    if not by_gates:
        data = {"model": name, "version": number, "environment": environment, "approvals": policy.approvals}
        event = log.append(conn, "approval.requested", version.subject, POLICY, data, cause=cause)
        values["event_id"] = event.id
    else:
        values["event_id"] = cause
    conn.execute(insert(approvals).values(**values))
    versions.set_state(conn, name, number, environment, VersionState.PENDING)
    if by_gates:
        _close(conn, version, get(conn, values["id"]), ApprovalState.APPROVED, POLICY, "the gates decide here")


def _check_right(principal: Principal, policy: Environment, environment: str) -> None:
    holds_role = Role.ADMIN in principal.roles or policy.approver_role in principal.roles
    if not holds_role or not principal.may(Permission.VERSIONS_DECIDE, environment):
        raise Forbidden(
            f"{principal.name} is not an {policy.approver_role} for {environment}.",
            remedy=f"Ask somebody with the role {policy.approver_role}.",
        )


def _check_separation(conn: Connection, version: Version, policy: Environment, principal: Principal) -> None:
    if not policy.separation_of_duties:
        return
    concerned = {version.author, version.registrar}
    for name in list(concerned):
        service = principals.find(conn, name) if name else None
        concerned.add(service.behind if service else None)
    if principal.name in concerned or principal.kind == "service":
        raise Forbidden(
            f"{principal.name} made or registered {version.model} v{version.version} and cannot approve it.",
            remedy="Separation of duties: ask another approver.",
        )


def _open_request(conn: Connection, version: Version, environment: str) -> Approval:
    found = find(conn, version.model, version.version, ApprovalState.OPEN)
    for approval in found:
        if approval.environment == environment:
            return approval
    name, number = version.model, version.version
    verdict = gates.newest(conn, name, number)
    if verdict is not None and not verdict["passed"]:
        failed = "; ".join(result["why"] for result in verdict["results"] if not result["passed"])
        raise Conflict(f"{name} v{number} failed its gates: {failed}.", remedy="Register a version that passes them.")
    state = versions.state(conn, name, number, environment)
    raise Conflict(
        f"No decision on {name} v{number} for {environment} is open (it is {state}).",
        remedy=f"See where it stands: modelyard versions {name}",
    )


def _close(
    conn: Connection, version: Version, request: Approval, state: ApprovalState, actor: str, comment: str
) -> None:
    conn.execute(update(approvals).where(approvals.c.id == request.id).values(state=state, closed_at=now_ms()))
    after = VersionState.APPROVED if state is ApprovalState.APPROVED else VersionState.REJECTED
    versions.set_state(conn, version.model, version.version, request.environment, after)
    data = {
        "model": version.model,
        "version": version.version,
        "environment": request.environment,
        "digest": request.digest,
        "evidence_digest": request.evidence_digest,
        "comment": comment.strip(),
    }
    kind = "version.approved" if state is ApprovalState.APPROVED else "version.rejected"
    log.append(conn, kind, version.subject, actor, data, cause=request.event_id)


def _approval(conn: Connection, row: Row[Any]) -> Approval:
    query = select(decisions).where(decisions.c.approval_id == row.id).order_by(decisions.c.decided_at)
    made = tuple(Decision(d.principal, d.verdict, d.comment, d.decided_at) for d in conn.execute(query))
    return Approval(**row._mapping, decisions=made)  # pyright: ignore[reportPrivateUsage]
