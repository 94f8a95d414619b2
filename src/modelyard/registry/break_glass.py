"""Breaking the glass: an approval against the rules, for emergencies; it ends, and approvers are told."""

from sqlalchemy import ColumnElement, Connection, select

from modelyard.domain.errors import Conflict, Forbidden, Invalid
from modelyard.domain.permissions import Permission, Principal
from modelyard.domain.project import Project, seconds
from modelyard.domain.states import ApprovalState, VersionState
from modelyard.events import jobs, log
from modelyard.governance import principals
from modelyard.kit.clock import now_ms
from modelyard.registry import approvals, versions
from modelyard.registry.approvals import BREAK_GLASS, Approval
from modelyard.store.tables.registry import approvals as rows


def break_glass(
    conn: Connection,
    project: Project,
    name: str,
    number: int,
    environment: str,
    reason: str,
    principal: Principal,
) -> Approval:
    """An approval that holds until the policy's `expires`, whoever made the version and whatever its gates said.

    Raises Forbidden when the environment declares no break-glass or the principal may not; Invalid without a reason;
    Conflict when the version is approved already.
    """
    version, policy = versions.get(conn, name, number), approvals.policy_of(project, environment)
    if policy.break_glass is None:
        raise Forbidden(
            f"{environment} declares no way to break the glass.",
            remedy=f"Declare [environments.{environment}.break_glass] with expires and notify in modelyard.toml.",
        )
    decides = principal.may(Permission.VERSIONS_DECIDE, environment)
    operates = principal.may(Permission.DEPLOYMENTS_DEPLOY, environment)
    if principal.kind != principals.PERSON or not (decides or operates):
        raise Forbidden(
            f"{principal.name} may not break the glass in {environment}.",
            remedy="A person who may approve or deploy there can.",
        )
    if len(reason.strip()) < 10:
        raise Invalid("Breaking the glass needs a reason that others can follow.", remedy='Say why: -m "..."')
    versions.require_files(conn, version)
    if approvals.approved(conn, name, number, environment) is not None:
        raise Conflict(f"{name} v{number} is approved for {environment} already.", remedy="Deploy it.")
    if versions.state(conn, name, number, environment) is VersionState.REJECTED:
        versions.set_state(conn, name, number, environment, VersionState.PENDING)
    expires_at = now_ms() + int(seconds(policy.break_glass.expires) * 1000)
    data = {
        "model": name,
        "version": number,
        "environment": environment,
        "reason": reason.strip(),
        "expires_at": expires_at,
    }
    event = log.append(conn, "glass.broken", version.subject, principal.name, data, cause=version.event_id)
    given = approvals.open_new(
        conn,
        version,
        environment,
        BREAK_GLASS,
        requested_by=principal.name,
        event_id=event.id,
        expires_at=expires_at,
    )
    approvals.force(conn, version, given, policy, principal.name, reason)
    _page(conn, project, environment, event)
    return approvals.get(conn, given.id)


def expire(conn: Connection, project: Project) -> int:
    """How many break-glass approvals ran out and were ended; the approvers are told again."""
    ended = 0
    for row in conn.execute(select(rows).where(*_over())).all():
        version = versions.get(conn, row.model, row.version)
        approvals.end_expired(conn, version, approvals.get(conn, row.id))
        data = {"model": row.model, "version": row.version, "environment": row.environment}
        data["reason"] = "the break-glass approval ran out; decide on the version or deploy another"
        event = log.append(conn, "approval.expired", version.subject, "modelyard", data, cause=row.event_id)
        _page(conn, project, row.environment, event)
        ended += 1
    return ended


def any_over(conn: Connection) -> bool:
    """Whether `expire` has something to do; asked on a reading connection."""
    return conn.execute(select(rows.c.id).where(*_over()).limit(1)).first() is not None


def _over() -> tuple[ColumnElement[bool], ...]:
    return (rows.c.state == ApprovalState.APPROVED, rows.c.expires_at.is_not(None), rows.c.expires_at <= now_ms())


def _page(conn: Connection, project: Project, environment: str, event: log.Event) -> None:
    policy = project.environments.get(environment)
    for channel in policy.break_glass.notify if policy and policy.break_glass else []:
        payload = {"channel": channel, "type": event.type, "subject": event.subject, "data": event.data}
        jobs.enqueue(conn, "notify", payload, cause=event.id)
