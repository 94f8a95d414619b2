"""People and services, and their roles. Every rule is checked in the transaction that changes them."""

import re

from sqlalchemy import Connection, Row, insert, select, update

from modelyard.domain.errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound
from modelyard.domain.permissions import Permission, Principal, Role
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.store.tables.identity import principals, tokens

PERSON, SERVICE = "person", "service"
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$")
RESERVED = frozenset({"modelyard", "nobody"})


def create(
    conn: Connection, name: str, kind: str, roles: list[str], *, actor: str, behind: str | None = None
) -> Principal:
    """The new person or service. A service that a person makes stands for that person unless another is named.

    Raises AlreadyExists; Invalid for a bad name, kind, role or `behind`; Forbidden when the actor may not grant that.
    """
    checked = _roles(roles)
    if not NAME.match(name) or name in RESERVED:
        raise Invalid(f"{name!r} is not a name for a principal.", remedy="Use letters, digits and . _ @ -")
    if kind not in (PERSON, SERVICE):
        raise Invalid(f"{kind!r} is not a kind of principal.", remedy="Say person or service.")
    maker = find(conn, actor)
    if kind == SERVICE and behind is None and maker is not None:
        behind = maker.behind or maker.name
    if behind is not None:
        _check_behind(conn, kind, behind)
    if row_of(conn, name) is not None:
        raise AlreadyExists(f"There is a principal {name!r} already.", remedy="Choose another name.")
    _check_grant(maker, frozenset(), checked)
    values = {"name": name, "kind": kind, "roles": sorted(checked), "behind": behind}
    conn.execute(insert(principals).values(**values, created_at=now_ms(), created_by=actor, disabled=False))
    data = {"kind": kind, "roles": sorted(checked), "behind": behind}
    log.append(conn, "principal.created", f"principal/{name}", actor, data)
    return Principal(name, kind, frozenset(checked), behind)


def set_roles(conn: Connection, name: str, roles: list[str], *, actor: str) -> Principal:
    """The principal with its roles replaced.

    Raises Forbidden when the actor edits its own grants (or those of whom it acts for), or an admin's without being
    one; Conflict when no admin would be left.
    """
    before, checked = get(conn, name), _roles(roles)
    editor = find(conn, actor)
    if actor == name or (editor is not None and editor.behind == name):
        raise Forbidden("Nobody edits their own grants.", remedy="Ask another person who may manage principals.")
    _check_grant(editor, before.roles, checked)
    if before.behind == actor and editor is not None and not _permissions(checked) <= _permissions(editor.roles):
        raise Forbidden(
            f"{name} acts for {actor}: it cannot be given more than {actor} holds.",
            remedy="Ask another person who may manage principals.",
        )
    if Role.ADMIN in before.roles and Role.ADMIN not in checked:
        _check_last_admin(conn, name)
    conn.execute(update(principals).where(principals.c.name == name).values(roles=sorted(checked)))
    change = {"before": sorted(before.roles), "after": sorted(checked)}
    log.append(conn, "principal.changed", f"principal/{name}", actor, change)
    return Principal(name, before.kind, frozenset(checked), before.behind)


def disable(conn: Connection, name: str, *, actor: str) -> list[str]:
    """The digests of the principal's tokens, all revoked now; it may do nothing any more.

    Raises Forbidden as `set_roles` does, Conflict for the last admin, NotFound.
    """
    before = get(conn, name)
    if actor == name:
        raise Forbidden("Nobody disables themselves.", remedy="Ask another person who may manage principals.")
    _check_grant(find(conn, actor), before.roles, set())
    if Role.ADMIN in before.roles:
        _check_last_admin(conn, name)
    conn.execute(update(principals).where(principals.c.name == name).values(disabled=True))
    held = (tokens.c.principal == name, tokens.c.revoked_at.is_(None))
    digests = list(conn.execute(select(tokens.c.digest).where(*held)).scalars())
    conn.execute(update(tokens).where(*held).values(revoked_at=now_ms()))
    data = {"disabled": True, "tokens_revoked": len(digests)}
    log.append(conn, "principal.changed", f"principal/{name}", actor, data)
    return digests


def enable(conn: Connection, name: str, *, actor: str) -> Principal:
    """The principal with its former roles again; its tokens stay revoked. Raises NotFound, Conflict, Forbidden."""
    row = row_of(conn, name)
    if row is None:
        raise NotFound(f"There is no principal {name!r}.", remedy="List them: modelyard role")
    if not row.disabled:
        raise Conflict(f"{name} is not disabled.")
    _check_grant(find(conn, actor), frozenset(), {Role(role) for role in row.roles})
    conn.execute(update(principals).where(principals.c.name == name).values(disabled=False))
    log.append(conn, "principal.changed", f"principal/{name}", actor, {"disabled": False})
    return get(conn, name)


def find(conn: Connection, name: str) -> Principal | None:
    """The principal, unless there is none or it is disabled."""
    row = row_of(conn, name)
    return _principal(row) if row is not None and not row.disabled else None


def get(conn: Connection, name: str) -> Principal:
    found = find(conn, name)
    if found is None:
        raise NotFound(f"There is no principal {name!r}.", remedy="List them: modelyard role")
    return found


def every(conn: Connection) -> list[Principal]:
    """All who are not disabled, by name."""
    query = select(principals).where(~principals.c.disabled).order_by(principals.c.name)
    return [_principal(row) for row in conn.execute(query)]


def disabled(conn: Connection) -> list[Principal]:
    query = select(principals).where(principals.c.disabled).order_by(principals.c.name)
    return [_principal(row) for row in conn.execute(query)]


def hands(conn: Connection, names: set[str]) -> set[str]:
    """Everybody whose hand an act of `names` was: they and the people behind their services, disabled ones too."""
    found = set(names)
    for name in names:
        row = row_of(conn, name)
        if row is not None and row.behind:
            found.add(row.behind)
    return found


def row_of(conn: Connection, name: str) -> Row[tuple[object, ...]] | None:
    """The stored record, also of a disabled principal."""
    return conn.execute(select(principals).where(principals.c.name == name)).first()


def _check_behind(conn: Connection, kind: str, behind: str) -> None:
    if kind != SERVICE:
        raise Invalid("Only a service has a person behind it.", remedy="Leave out behind, or make a service.")
    person = find(conn, behind)
    if person is None or person.kind != PERSON:
        raise Invalid(f"{behind!r} is not a person of this yard.", remedy="Name a person: modelyard role")


def _check_grant(editor: Principal | None, before: frozenset[Role], after: set[Role]) -> None:
    """Only an admin makes, changes or removes an admin. The platform itself (no principal) may."""
    if editor is not None and Role.ADMIN in (before | after) and Role.ADMIN not in editor.roles:
        raise Forbidden("Only an admin makes or changes an admin.", remedy="Ask an admin of this yard.")


def _check_last_admin(conn: Connection, name: str) -> None:
    others = [item for item in every(conn) if Role.ADMIN in item.roles and item.kind == PERSON and item.name != name]
    if not others:
        raise Conflict(f"{name} is the last admin of this yard.", remedy="Make another admin first.")


def _permissions(roles: set[Role] | frozenset[Role]) -> set[tuple[Permission, bool]]:
    """What roles allow: (permission, whether in production)."""
    holder = Principal("", PERSON, frozenset(roles))
    return {(p, live) for p in Permission for live in (False, True) if holder.may(p, "production" if live else "dev")}


def _roles(names: list[str]) -> set[Role]:
    unknown = sorted(set(names) - set(Role))
    if unknown or not names:
        raise Invalid(
            f"Not a role: {', '.join(unknown) or 'nothing given'}.", remedy=f"Roles: {', '.join(sorted(Role))}."
        )
    return {Role(name) for name in names}


def _principal(row: Row[tuple[object, ...]]) -> Principal:
    return Principal(row.name, row.kind, frozenset(Role(role) for role in row.roles), row.behind)
