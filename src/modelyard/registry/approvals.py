"""Approvals: recorded decisions on a version for an environment, bound to its digest and evidence."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from modelyard.domain.errors import Conflict, Forbidden, Invalid, NotFound
from modelyard.domain.permissions import Permission, Principal, Role
from modelyard.domain.project import Environment, Project
from modelyard.domain.states import ApprovalState, VersionState, check_transition
from modelyard.events import log
from modelyard.governance import principals
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id
from modelyard.registry import evidence, gates, standing, versions
from modelyard.registry.versions import Version
from modelyard.store.tables.registry import approvals, decisions

POLICY = "modelyard"
"""The actor of decisions that a declared policy makes."""
PEOPLE, GATES, STANDING, BREAK_GLASS = "people", "gates", "standing", "break-glass"
"""How an approval came about."""


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
    expires_at: int | None
    how: str
    event_id: str | None
    decisions: tuple[Decision, ...] = ()


def request_all(conn: Connection, project: Project, version: Version, cause: str) -> None:
    """Ask for what every environment's policy wants, now that the gates passed; never for a version without files."""
    if not versions.files(conn, version.model, version.version):
        return
    for environment, policy in project.environments.items():
        _request(conn, project, version, environment, policy, cause)


def void_all(conn: Connection, version: Version, reason: str, cause: str | None) -> None:
    """End every open or given approval of a version, because what it was bound to changed."""
    states = [ApprovalState.OPEN, ApprovalState.APPROVED]
    where = (approvals.c.model == version.model, approvals.c.version == version.version)
    for row in conn.execute(select(approvals).where(*where, approvals.c.state.in_(states))).all():
        _end(conn, _approval(conn, row), ApprovalState.VOID)
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
    policy = policy_of(project, environment)
    if verdict not in ("approve", "reject"):
        raise Invalid(f"{verdict!r} is not a verdict.", remedy="Say approve or reject.")
    _check_comment(comment)
    _check_right(principal, policy, environment)
    if verdict == "approve":
        check_separation(conn, version, policy, principal)
    if verdict == "approve":
        _ask_late(conn, project, version, environment, policy)
        given = approved(conn, name, number, environment)
        if given is not None and given.how == GATES:
            return given
    request = _open_request(conn, version, environment)
    if not _bound(conn, version, request):
        raise Conflict(
            f"{name} v{number} changed after approval was asked.", remedy="Look at the new evidence; ask again."
        )
    if any(decision.principal == principal.name for decision in request.decisions):
        raise Conflict(f"{principal.name} decided on this already.", remedy="Another approver must decide.")
    _note(conn, request.id, principal.name, verdict, comment)
    request = get(conn, request.id)
    if verdict == "reject":
        _close(conn, version, request, policy, ApprovalState.REJECTED, principal.name, comment)
    elif len(_standing_yes(conn, request, policy)) >= policy.approvals:
        _close(conn, version, request, policy, ApprovalState.APPROVED, principal.name, comment)
    return get(conn, request.id)


def why_not(
    conn: Connection, project: Project, version: Version, environment: str, principal: Principal
) -> Forbidden | None:
    """Why a principal may not approve a version for an environment; None when they may."""
    policy = policy_of(project, environment)
    try:
        _check_right(principal, policy, environment)
        check_separation(conn, version, policy, principal)
    except Forbidden as error:
        return error
    return None


def approved(conn: Connection, name: str, number: int, environment: str) -> Approval | None:
    """The approval that holds now: not voided, not expired, for the version's digest and all of its evidence."""
    where = (approvals.c.model == name, approvals.c.version == number, approvals.c.environment == environment)
    query = select(approvals).where(*where, approvals.c.state == ApprovalState.APPROVED)
    version = versions.find(conn, name, number)
    for row in conn.execute(query.order_by(approvals.c.requested_at.desc(), approvals.c.id)).all():
        found = _approval(conn, row)
        running = found.expires_at is None or found.expires_at > now_ms()
        if version is not None and running and _bound(conn, version, found):
            return found
    return None


def require_approved(conn: Connection, name: str, number: int, environment: str) -> Approval:
    """The approval. Raises Forbidden that says whom to ask."""
    found = approved(conn, name, number, environment)
    if found is None:
        versions.get(conn, name, number)
        raise Forbidden(
            f"{name} v{number} has no approval for {environment}.",
            remedy=f'Ask an approver: modelyard approve {name}/{number} --to {environment} -m "why"',
        )
    return found


def policy_of(project: Project, environment: str) -> Environment:
    """What the project declares for an environment. Raises NotFound."""
    policy = project.environments.get(environment)
    if policy is None:
        known = ", ".join(sorted(project.environments))
        raise NotFound(f"There is no environment {environment!r}.", remedy=f"Environments: {known}.")
    return policy


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


def open_new(
    conn: Connection, version: Version, environment: str, how: str, *, requested_by: str, **values: Any
) -> Approval:
    """A new open request, bound to the version's digest and evidence as they are now."""
    approval_id = new_id()
    conn.execute(
        insert(approvals).values(
            id=approval_id,
            model=version.model,
            version=version.version,
            environment=environment,
            state=ApprovalState.OPEN,
            digest=version.digest,
            evidence_digest=evidence.whole_digest(conn, version.model, version.version),
            requested_by=requested_by,
            requested_at=now_ms(),
            how=how,
            **values,
        )
    )
    return get(conn, approval_id)


def check_separation(conn: Connection, version: Version, policy: Environment, principal: Principal) -> None:
    """Raise Forbidden when the principal made, registered or measured the version, itself or through a service."""
    if not policy.separation_of_duties:
        return
    if principal.kind != principals.PERSON:
        raise Forbidden(
            f"{principal.name} is a service; services never approve.", remedy="Ask a person who is an approver."
        )
    measured = {item.attached_by for item in evidence.of_version(conn, version.model, version.version)}
    concerned = {name for name in (version.author, version.registrar, *measured) if name}
    if principal.name in principals.hands(conn, concerned):
        raise Forbidden(
            f"{principal.name} made or registered {version.model} v{version.version} and cannot approve it.",
            remedy="Separation of duties: ask another approver.",
        )


def force(
    conn: Connection, version: Version, request: Approval, policy: Environment, actor: str, comment: str
) -> None:
    """Close an open request as approved without the ordinary rules; only `break_glass` does."""
    _note(conn, request.id, actor, "approve", comment)
    _close(conn, version, request, policy, ApprovalState.APPROVED, actor, comment)


def end_expired(conn: Connection, version: Version, approval: Approval) -> None:
    """Void an approval whose time is over; the version's standing falls back to what remains."""
    _end(conn, approval, ApprovalState.VOID)
    name, number, environment = approval.model, approval.version, approval.environment
    if approved(conn, name, number, environment) is not None:
        return
    versions.set_state(conn, name, number, environment, VersionState.CANDIDATE)
    waiting = find(conn, name, number, ApprovalState.OPEN)
    if any(item.environment == environment for item in waiting):
        versions.set_state(conn, name, number, environment, VersionState.PENDING)


def _request(
    conn: Connection, project: Project, version: Version, environment: str, policy: Environment, cause: str | None
) -> None:
    name, number = version.model, version.version
    if versions.state(conn, name, number, environment) in (VersionState.PENDING, VersionState.APPROVED):
        return
    if policy.approval == "gates":
        request = open_new(conn, version, environment, GATES, requested_by=version.registrar, event_id=cause)
        versions.set_state(conn, name, number, environment, VersionState.PENDING)
        _close(conn, version, request, policy, ApprovalState.APPROVED, POLICY, "the gates decide here")
        return
    data = {"model": name, "version": number, "environment": environment, "approvals": policy.approvals}
    event = log.append(conn, "approval.requested", version.subject, POLICY, data, cause=cause)
    request = open_new(conn, version, environment, PEOPLE, requested_by=version.registrar, event_id=event.id)
    versions.set_state(conn, name, number, environment, VersionState.PENDING)
    _apply_standing(conn, project, version, request, policy)


def _apply_standing(
    conn: Connection, project: Project, version: Version, request: Approval, policy: Environment
) -> None:
    """Approve what an automatic retrain registered, if enough approvers signed for it in advance."""
    registrar = principals.find(conn, version.registrar)
    if registrar is None or registrar.kind != principals.SERVICE:
        return
    comment = ""
    for signed in standing.holding(conn, project, version.model, request.environment):
        signer = principals.find(conn, signed.signed_by)
        try:
            if signer is None:
                continue
            _check_right(signer, policy, request.environment)
            check_separation(conn, version, policy, signer)
        except Forbidden:  # the signer may not decide on this one; the others still may
            continue
        comment = f"standing policy {signed.id[:12]} signed by {signer.name}: {signed.comment}"
        _note(conn, request.id, signer.name, "approve", comment)
    request = get(conn, request.id)
    if len(request.decisions) >= policy.approvals:
        conn.execute(update(approvals).where(approvals.c.id == request.id).values(how=STANDING))
        _close(conn, version, get(conn, request.id), policy, ApprovalState.APPROVED, POLICY, comment)


def _check_right(principal: Principal, policy: Environment, environment: str) -> None:
    if not _may_decide(principal, policy, environment):
        raise Forbidden(
            f"{principal.name} is not an {policy.approver_role} for {environment}.",
            remedy=f"Ask somebody with the role {policy.approver_role}.",
        )


def _may_decide(principal: Principal, policy: Environment, environment: str) -> bool:
    holds_role = Role.ADMIN in principal.roles or policy.approver_role in principal.roles
    return holds_role and principal.may(Permission.VERSIONS_DECIDE, environment)


def _check_comment(comment: str) -> None:
    if not comment.strip():
        raise Invalid("A decision needs a reason.", remedy='Give one: -m "why".')


def _standing_yes(conn: Connection, request: Approval, policy: Environment) -> set[str]:
    """Who approved and still may: a yes of somebody who lost the role, or was disabled, does not count."""
    found: set[str] = set()
    for decision in request.decisions:
        holder = principals.find(conn, decision.principal)
        if decision.verdict == "approve" and holder and _may_decide(holder, policy, request.environment):
            found.add(decision.principal)
    return found


def _ask_late(conn: Connection, project: Project, version: Version, environment: str, policy: Environment) -> None:
    """Ask for what was not asked when the gates passed: the environment was declared after that."""
    name, number = version.model, version.version
    verdict = gates.newest(conn, name, number)
    asked = any(item.environment == environment for item in find(conn, name, number))
    if not asked and verdict is not None and verdict["passed"]:
        _request(conn, project, version, environment, policy, version.event_id)


def _open_request(conn: Connection, version: Version, environment: str) -> Approval:
    for approval in find(conn, version.model, version.version, ApprovalState.OPEN):
        if approval.environment == environment:
            return approval
    versions.require_files(conn, version)
    name, number = version.model, version.version
    verdict = gates.newest(conn, name, number)
    if verdict is not None and not verdict["passed"]:
        failed = "; ".join(result["why"] for result in verdict["results"] if not result["passed"])
        raise Conflict(f"{name} v{number} failed its gates: {failed}.", remedy="Register a version that passes them.")
    if evidence.evaluation(conn, name, number) is None:
        raise Conflict(
            f"{name} v{number} has no evidence, so its gates cannot be checked.",
            remedy=f"Declare [models.{name}] in modelyard.toml and register it again.",
        )
    state = versions.state(conn, name, number, environment)
    raise Conflict(
        f"No decision on {name} v{number} for {environment} is open (it is {state}).",
        remedy=f"See where it stands: modelyard versions {name}",
    )


def _bound(conn: Connection, version: Version, approval: Approval) -> bool:
    """Whether the version is still what the approval was asked for."""
    whole = evidence.whole_digest(conn, version.model, version.version)
    return approval.digest == version.digest and approval.evidence_digest == whole


def _note(conn: Connection, approval_id: str, principal: str, verdict: str, comment: str) -> None:
    values = {"approval_id": approval_id, "principal": principal, "verdict": verdict, "comment": comment.strip()}
    conn.execute(insert(decisions).values(id=new_id(), decided_at=now_ms(), **values))


def _end(conn: Connection, approval: Approval, state: ApprovalState) -> None:
    check_transition(f"The approval of {approval.model} v{approval.version}", ApprovalState(approval.state), state)
    conn.execute(update(approvals).where(approvals.c.id == approval.id).values(state=state, closed_at=now_ms()))


def _close(
    conn: Connection,
    version: Version,
    request: Approval,
    policy: Environment,
    state: ApprovalState,
    actor: str,
    comment: str,
) -> None:
    _end(conn, request, state)
    after = VersionState.APPROVED if state is ApprovalState.APPROVED else VersionState.REJECTED
    versions.set_state(conn, version.model, version.version, request.environment, after)
    data = {
        "model": version.model,
        "version": version.version,
        "environment": request.environment,
        "digest": request.digest,
        "evidence_digest": request.evidence_digest,
        "comment": comment.strip(),
        "how": request.how,
        "separation_of_duties": policy.separation_of_duties,
    }
    kind = "version.approved" if state is ApprovalState.APPROVED else "version.rejected"
    log.append(conn, kind, version.subject, actor, data, cause=request.event_id)


def _approval(conn: Connection, row: Row[Any]) -> Approval:
    query = select(decisions).where(decisions.c.approval_id == row.id)
    query = query.order_by(decisions.c.decided_at, decisions.c.id)
    made = tuple(Decision(d.principal, d.verdict, d.comment, d.decided_at) for d in conn.execute(query))
    return Approval(**row._mapping, decisions=made)  # pyright: ignore[reportPrivateUsage]
