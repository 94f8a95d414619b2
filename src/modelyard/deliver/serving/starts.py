"""Which workers cannot start: what who runs them says, and whether they were reached since.

A worker that is merely on its way (woken, replaced, started again once) is waited for. One whose process ended again
and again before anybody could connect to it is not: who asks for it is told so at once, and where its version shares
the traffic with others, these have its share until it can be connected to.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from modelyard.deliver.serving.routing import Routing, Target
from modelyard.deliver.serving.upstream import Pool

FILE = "observed"
"""How the names of the files begin in which who runs workers says what runs; one for each place."""
TRIES = 3
"""A worker that ended so often at once does not start by waiting."""


class Told(msgspec.Struct, frozen=True):
    """`restarts`: how often it ended in a row soon after its start; `deaths`: how often since its first start."""

    restarts: int
    deaths: int


class Observed(msgspec.Struct, frozen=True):
    workers: dict[str, Told]


@dataclass
class Reached:
    """How often a worker was connected to, and how often it had ended by then."""

    connections: int = 0
    deaths: int = 0


class Starts:
    """The sockets of a routing whose workers cannot start."""

    def __init__(self, folder: Path, pool: Pool) -> None:
        self._folder, self._pool = folder, pool
        self._marks: dict[Path, tuple[int, int]] = {}
        self._told: dict[str, Told] = {}
        self._reached: dict[str, Reached] = {}
        self.failing: frozenset[str] = frozenset()
        self.changed = False

    def look(self, routing: Routing) -> bool:
        """Take what is said by now; whether other workers cannot start than before, which `changed` remembers."""
        self._read()
        routes = [t for endpoint in routing.endpoints.values() for t in (*endpoint.routes, *endpoint.shadow)]
        sockets = {socket for target in routes for socket in target.sockets}
        self._reached = {socket: self._reached.get(socket, Reached()) for socket in sockets}
        failing = frozenset(socket for socket in sockets if self._fails(socket))
        fresh, self.failing = failing != self.failing, failing
        self.changed = self.changed or fresh
        return fresh

    def shown(self, routing: Routing) -> Routing:
        """The routing in which versions that cannot start leave their share to those beside them that can."""
        if not self.failing:
            return routing
        endpoints = {
            name: msgspec.structs.replace(endpoint, routes=self._shared(endpoint.routes))
            for name, endpoint in routing.endpoints.items()
        }
        return msgspec.structs.replace(routing, endpoints=endpoints)

    def fails(self, target: Target) -> bool:
        """Whether none of a deployment's workers can start."""
        return bool(target.sockets) and self.failing.issuperset(target.sockets)

    def _shared(self, routes: tuple[Target, ...]) -> tuple[Target, ...]:
        if not any(target.weight > 0 and not self.fails(target) for target in routes):
            return routes
        return tuple(
            msgspec.structs.replace(target, weight=0.0) if self.fails(target) else target for target in routes
        )

    def _fails(self, socket: str) -> bool:
        told, upstream, reached = self._told.get(Path(socket).stem), self._pool.at(socket), self._reached[socket]
        if told is None:
            return False
        if upstream.connections != reached.connections or upstream.connected:
            reached.connections, reached.deaths = upstream.connections, told.deaths
        return min(told.restarts, told.deaths - reached.deaths) >= TRIES

    def _read(self) -> None:
        """What each place says of its workers, where a file changed; of a worker in two of them the better."""
        marks: dict[Path, tuple[int, int]] = {}
        for file in self._folder.glob(f"{FILE}*.json"):
            status = file.stat()
            marks[file] = (status.st_ino, status.st_mtime_ns)
        if marks == self._marks:
            return
        told: dict[str, Told] = {}
        for file in marks:
            for name, said in msgspec.json.decode(file.read_bytes(), type=Observed).workers.items():
                told[name] = min(told.get(name, said), said, key=lambda item: item.restarts)
        self._marks, self._told = marks, told
