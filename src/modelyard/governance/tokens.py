"""Tokens: 256 random bits, kept as their SHA-256 digest only."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, insert, or_, select, update

from modelyard.domain.errors import Conflict, Forbidden, Invalid, NotFound
from modelyard.domain.permissions import Permission, Principal, Role
from modelyard.events import log
from modelyard.governance import principals
from modelyard.kit.clock import now_ms
from modelyard.kit.hashing import sha256_hex
from modelyard.kit.ids import new_id, new_token
from modelyard.store.tables.identity import tokens

API, SESSION, ONE_TIME, SERVICE = "api", "session", "one-time", "service"
HOUR_MS = 3_600_000
EVENTS = {API: "token.created", SERVICE: "token.created", SESSION: "session.started"}
SESSION_S = 12 * 3600
LIFETIME_MS: dict[str, int | None] = {API: None, SESSION: SESSION_S * 1000, ONE_TIME: HOUR_MS, SERVICE: 6 * HOUR_MS}


@dataclass(frozen=True)
class TokenInfo:
    """A token without its secret."""

    id: str
    principal: str
    kind: str
    label: str
    created_at: int
    expires_at: int | None
    revoked_at: int | None


def issue(
    conn: Connection,
    principal: str,
    kind: str = API,
    *,
    actor: str,
    label: str = "",
    lifetime_ms: int | None = None,
    opened_by: str | None = None,
) -> str:
    """The secret, shown this once; it holds for `lifetime_ms`, by default as long as its kind does.

    Raises NotFound for an unknown principal, Forbidden when the actor may not act for it, Invalid for a lifetime
    that is not in the future.
    """
    holder = principals.get(conn, principal)
    _check_issuer(conn, holder, actor)
    if lifetime_ms is not None and lifetime_ms <= 0:
        raise Invalid("A token's lifetime must be in the future.", remedy="Give a duration such as 30d.")
    secret, now, token_id = new_token(), now_ms(), new_id()
    lifetime = LIFETIME_MS[kind] if lifetime_ms is None else lifetime_ms
    conn.execute(
        insert(tokens).values(
            id=token_id,
            digest=sha256_hex(secret.encode()),
            principal=principal,
            kind=kind,
            label=label,
            opened_by=opened_by,
            created_at=now,
            expires_at=None if lifetime is None else now + lifetime,
            used_at=None,
            revoked_at=None,
        )
    )
    if kind in EVENTS:
        expires_at = None if lifetime is None else now + lifetime
        data = {"principal": principal, "kind": kind, "expires_at": expires_at}
        log.append(conn, EVENTS[kind], f"token/{token_id}", actor, data)
    return secret


def _check_issuer(conn: Connection, holder: Principal, actor: str) -> None:
    """A token lets its bearer act as `holder`: only an admin may issue one for another person who decides."""
    issuer = principals.find(conn, actor)
    if issuer is None or issuer.name == holder.name or Role.ADMIN in issuer.roles:
        return
    if Role.ADMIN in holder.roles or holder.may(Permission.VERSIONS_DECIDE):
        raise Forbidden(
            f"A token of {holder.name} would let {actor} decide in their name.",
            remedy="Ask an admin to issue it, or let them issue their own.",
        )


def principal_of(conn: Connection, digest: str) -> Principal | None:
    """Whom a token stands for; None when it is unknown, expired, revoked, disabled, or fit for signing in only."""
    live = select(tokens.c.principal).where(tokens.c.digest == digest, tokens.c.kind != ONE_TIME, *_alive())
    name = conn.execute(live).scalar()
    return principals.find(conn, name) if name else None


def open_session(conn: Connection, secret: str) -> str | None:
    """A session's secret for a one-time secret, which is used up, or for an API token; None when it is not good.

    A session ends with the API token that opened it.
    """
    digest = sha256_hex(secret.encode())
    fit = or_(tokens.c.kind == API, and_(tokens.c.kind == ONE_TIME, tokens.c.used_at.is_(None)))
    held = update(tokens).where(tokens.c.digest == digest, fit, *_alive()).values(used_at=now_ms())
    if not conn.execute(held).rowcount:
        return None
    opener = conn.execute(select(tokens).where(tokens.c.digest == digest)).one()
    if principals.find(conn, opener.principal) is None:
        return None
    name = opener.principal
    return issue(conn, name, SESSION, actor=name, label="console", opened_by=opener.id)


def close_session(conn: Connection, secret: str) -> None:
    """End a session. Another kind of token is left as it is."""
    where = (tokens.c.digest == sha256_hex(secret.encode()), tokens.c.kind == SESSION, *_alive())
    found = conn.execute(select(tokens.c.id, tokens.c.principal).where(*where)).first()
    if found is not None:
        conn.execute(update(tokens).where(tokens.c.id == found.id).values(revoked_at=now_ms()))
        log.append(conn, "session.ended", f"token/{found.id}", found.principal, {"principal": found.principal})


def revoke(conn: Connection, token_id: str, *, actor: str) -> str:
    """The digest of the token that holds no longer, nor do the sessions that it opened.

    Raises NotFound, Conflict when it was revoked before.
    """
    found = conn.execute(select(tokens).where(tokens.c.id == token_id)).first()
    if found is None:
        raise NotFound(f"There is no token {token_id!r}.", remedy="List them: modelyard token --json")
    if found.revoked_at is not None:
        raise Conflict(f"The token {token_id} was revoked before.")
    ended = or_(tokens.c.id == token_id, tokens.c.opened_by == token_id)
    conn.execute(update(tokens).where(ended, tokens.c.revoked_at.is_(None)).values(revoked_at=now_ms()))
    log.append(conn, "token.revoked", f"token/{token_id}", actor, {"principal": found.principal})
    return found.digest


def every(conn: Connection) -> list[TokenInfo]:
    """API and service tokens that still hold, newest first."""
    shown = select(tokens).where(tokens.c.kind.in_([API, SERVICE]), *_alive()).order_by(tokens.c.created_at.desc())
    return [
        TokenInfo(row.id, row.principal, row.kind, row.label, row.created_at, row.expires_at, row.revoked_at)
        for row in conn.execute(shown)
    ]


def lasting(conn: Connection) -> set[str]:
    """The digests of all API tokens that hold; sessions come and go too often to be told to gateways."""
    return set(conn.execute(select(tokens.c.digest).where(tokens.c.kind == API, *_alive())).scalars())


def invokers(conn: Connection, environment: str) -> dict[str, str]:
    """{token digest: principal name} of everybody who may invoke endpoints in `environment`."""
    return holders(conn, Permission.ENDPOINTS_INVOKE, environment)


def holders(conn: Connection, permission: Permission, environment: str) -> dict[str, str]:
    """{token digest: principal name} of every token that stands for somebody with a permission."""
    allowed: dict[str, str] = {}
    for principal in principals.every(conn):
        if not principal.may(permission, environment):
            continue
        held = select(tokens.c.digest).where(
            tokens.c.principal == principal.name, tokens.c.kind != ONE_TIME, *_alive()
        )
        allowed |= dict.fromkeys(conn.execute(held).scalars(), principal.name)
    return allowed


def _alive() -> tuple[ColumnElement[bool], ...]:
    return (tokens.c.revoked_at.is_(None), or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now_ms()))
