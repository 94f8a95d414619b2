"""Standing policies: an approver's word in advance on versions that an automatic retrain makes."""

from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, insert, select, update

from modelyard.domain.errors import Conflict, Forbidden, Invalid, NotFound
from modelyard.domain.permissions import Permission, Principal, Role
from modelyard.domain.project import Project
from modelyard.events import log
from modelyard.governance import principals
from modelyard.kit.clock import now_ms
from modelyard.kit.hashing import digest_json
from modelyard.kit.ids import new_id
from modelyard.registry import models
from modelyard.store.tables.registry import standing_policies

LONGEST_MS = 366 * 86_400_000


@dataclass(frozen=True)
class StandingPolicy:
    """Bound to the gates as they were when it was signed: weaker gates end it."""

    id: str
    model: str
    environment: str
    gates_digest: str
    signed_by: str
    comment: str
    signed_at: int
    expires_at: int
    revoked_at: int | None


def sign(
    conn: Connection,
    project: Project,
    model: str,
    environment: str,
    comment: str,
    lifetime_ms: int,
    principal: Principal,
) -> StandingPolicy:
    """The policy. Raises Forbidden for who may not approve, Conflict without gates, Invalid, NotFound."""
    models.get(conn, model)
    policy = project.environments.get(environment)
    if policy is None:
        known = ", ".join(sorted(project.environments))
        raise NotFound(f"There is no environment {environment!r}.", remedy=f"Environments: {known}.")
    entitled = Role.ADMIN in principal.roles or policy.approver_role in principal.roles
    if principal.kind != principals.PERSON or not entitled or not principal.may(Permission.VERSIONS_DECIDE):
        raise Forbidden(
            f"{principal.name} is not an {policy.approver_role} for {environment}.",
            remedy=f"Ask a person with the role {policy.approver_role}.",
        )
    if not comment.strip():
        raise Invalid("A standing policy needs a reason.", remedy='Give one: -m "why".')
    if not 0 < lifetime_ms <= LONGEST_MS:
        raise Invalid("A standing policy holds for at most a year.", remedy="Give a duration such as 30d.")
    declared = project.models.get(model)
    if declared is None or not declared.gates:
        raise Conflict(
            f"{model} declares no gates: nothing would be checked before its versions are approved.",
            remedy=f"Declare [models.{model}.gates] in modelyard.toml first.",
        )
    now = now_ms()
    made = StandingPolicy(
        new_id(),
        model,
        environment,
        gates_digest(project, model),
        principal.name,
        comment.strip(),
        now,
        now + lifetime_ms,
        None,
    )
    conn.execute(insert(standing_policies).values(**made.__dict__))
    data = {"id": made.id, "model": model, "environment": environment, "gates_digest": made.gates_digest}
    data |= {"expires_at": made.expires_at, "comment": made.comment}
    log.append(conn, "standing-policy.signed", f"model/{model}", principal.name, data)
    return made


def revoke(conn: Connection, policy_id: str, *, actor: str) -> None:
    """End a policy. Raises NotFound, Conflict when it was revoked before."""
    row = conn.execute(select(standing_policies).where(standing_policies.c.id == policy_id)).first()
    if row is None:
        raise NotFound(f"There is no standing policy {policy_id!r}.", remedy="List them: modelyard standing")
    if row.revoked_at is not None:
        raise Conflict("This standing policy was revoked before.")
    where = standing_policies.c.id == policy_id
    conn.execute(update(standing_policies).where(where).values(revoked_at=now_ms()))
    data = {"id": policy_id, "model": row.model, "environment": row.environment}
    log.append(conn, "standing-policy.revoked", f"model/{row.model}", actor, data)


def every(conn: Connection) -> list[StandingPolicy]:
    """All that were ever signed, newest first."""
    query = select(standing_policies).order_by(standing_policies.c.signed_at.desc(), standing_policies.c.id)
    return [StandingPolicy(**row._mapping) for row in conn.execute(query)]  # pyright: ignore[reportPrivateUsage]


def holding(conn: Connection, project: Project, model: str, environment: str) -> list[StandingPolicy]:
    """Those in force now for the gates as they are now, one a signer."""
    found: dict[str, StandingPolicy] = {}
    for policy in every(conn):
        concerned = policy.model == model and policy.environment == environment
        running = policy.revoked_at is None and policy.expires_at > now_ms()
        if concerned and running and policy.gates_digest == gates_digest(project, model):
            found.setdefault(policy.signed_by, policy)
    return list(found.values())


def gates_digest(project: Project, model: str) -> str:
    """What a policy is bound to: the model's declared gates."""
    declared = project.models.get(model)
    return digest_json(msgspec.to_builtins(declared.gates if declared else {}))
