"""Leases: of several servers on one database, one does what must be done once at a time."""

from sqlalchemy import Connection, insert, or_, select, update

from modelyard.kit.clock import now_ms
from modelyard.store.database import Store
from modelyard.store.tables.events import leases

LEASE_MS = 15_000


def take(conn: Connection, name: str, holder: str, now: int | None = None) -> bool:
    """Whether `holder` has the lease `name` for the next LEASE_MS: it was free, lapsed, or its own already."""
    now = now_ms() if now is None else now
    values = {"holder": holder, "until": now + LEASE_MS}
    free = or_(leases.c.holder == holder, leases.c.until < now)
    if conn.execute(update(leases).where(leases.c.name == name, free).values(**values)).rowcount:
        return True
    if conn.execute(select(leases.c.name).where(leases.c.name == name)).first():
        return False
    conn.execute(insert(leases).values(name=name, **values))
    return True


class Leases:
    """The leases of one server. `holder` names it the same after a restart, so that it takes its own up again."""

    def __init__(self, store: Store, holder: str) -> None:
        self._store, self._holder = store, holder
        self._held: dict[str, int] = {}

    async def hold(self, name: str) -> bool:
        """Whether this server has the lease now; asks the database when a third of its time is over."""
        if self._held.get(name, 0) > now_ms():
            return True
        taken = await self._store.write(lambda conn: take(conn, name, self._holder))
        if taken:
            self._held[name] = now_ms() + LEASE_MS // 3
        return taken
