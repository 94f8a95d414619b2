"""People and services, and their roles."""

from sqlalchemy import Connection, Row, insert, select, update

from modelyard.domain.errors import AlreadyExists, Forbidden, Invalid, NotFound
from modelyard.domain.permissions import Principal, Role
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.store.tables.identity import principals


def create(
    conn: Connection, name: str, kind: str, roles: list[str], *, actor: str, behind: str | None = None
) -> Principal:
    """The new person or service. Raises AlreadyExists, or Invalid for a role that there is not."""
    checked = _roles(roles)
    if find(conn, name):
        raise AlreadyExists(f"There is a principal {name!r} already.", remedy="Choose another name.")
    conn.execute(
        insert(principals).values(
            name=name,
            kind=kind,
            roles=sorted(checked),
            behind=behind,
            created_at=now_ms(),
            created_by=actor,
            disabled=False,
        )
    )
    log.append(conn, "principal.created", f"principal/{name}", actor, {"kind": kind, "roles": sorted(checked)})
    return Principal(name, kind, frozenset(checked), behind)


def set_roles(conn: Connection, name: str, roles: list[str], *, actor: str) -> Principal:
    """The principal with its roles replaced. Raises Forbidden when the actor edits its own grants."""
    before = get(conn, name)
    if actor == name:
        raise Forbidden("Nobody edits their own grants.", remedy="Ask another person who may manage principals.")
    checked = _roles(roles)
    conn.execute(update(principals).where(principals.c.name == name).values(roles=sorted(checked)))
    change = {"before": sorted(before.roles), "after": sorted(checked)}
    log.append(conn, "principal.changed", f"principal/{name}", actor, change)
    return Principal(name, before.kind, frozenset(checked), before.behind)


def find(conn: Connection, name: str) -> Principal | None:
    row = conn.execute(select(principals).where(principals.c.name == name, ~principals.c.disabled)).first()
    return _principal(row) if row else None


def get(conn: Connection, name: str) -> Principal:
    found = find(conn, name)
    if found is None:
        raise NotFound(f"There is no principal {name!r}.", remedy="List them: modelyard token --principals")
    return found


def every(conn: Connection) -> list[Principal]:
    return [_principal(row) for row in conn.execute(select(principals).order_by(principals.c.name))]


def _roles(names: list[str]) -> set[Role]:
    unknown = sorted(set(names) - set(Role))
    if unknown or not names:
        raise Invalid(
            f"Not a role: {', '.join(unknown) or 'nothing given'}.", remedy=f"Roles: {', '.join(sorted(Role))}."
        )
    return {Role(name) for name in names}


def _principal(row: Row[tuple[object, ...]]) -> Principal:
    return Principal(row.name, row.kind, frozenset(Role(role) for role in row.roles), row.behind)
