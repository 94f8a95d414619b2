"""Where requests go: the routing file, atomically replaced by the controller, read by the gateway."""

import os
from pathlib import Path

import msgspec


class Target(msgspec.Struct, frozen=True):
    """A deployment that answers: its workers' sockets and its share of the traffic."""

    deployment: str
    version: int
    sockets: tuple[str, ...]
    weight: float = 0.0


class Limits(msgspec.Struct, frozen=True):
    max_body_bytes: int = 6_291_456
    timeout_s: float = 60.0
    max_concurrency: int = 256


class LogPolicy(msgspec.Struct, frozen=True):
    folder: str
    sample: float = 1.0


class Endpoint(msgspec.Struct, frozen=True):
    model: str
    routes: tuple[Target, ...]
    shadow: tuple[Target, ...] = ()
    limits: Limits = Limits()
    log: LogPolicy | None = None


class Routing(msgspec.Struct, frozen=True):
    """`tokens` maps the SHA-256 digests of tokens that may invoke to their principals."""

    environment: str
    revision: int
    tokens: dict[str, str] = {}
    endpoints: dict[str, Endpoint] = {}
    hosts: tuple[str, ...] = ()


class RoutingFile:
    """The newest good routing of a file; a damaged or missing file leaves the last good one in force."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self.current: Routing | None = None
        self.error = ""

    def refresh(self) -> bool:
        """Whether another routing is in force now."""
        try:
            status = os.stat(self._path)
            mark = (status.st_ino, status.st_mtime_ns)
            if mark == self._seen:
                return False
            routing = msgspec.json.decode(self._path.read_bytes(), type=Routing)
        except FileNotFoundError:
            return False
        except (OSError, msgspec.DecodeError) as error:
            self.error = str(error)
            return False
        self._seen, self.current, self.error = mark, routing, ""
        return True


class Split:
    """Smooth weighted round robin: the share of each target is exact over any window of requests."""

    def __init__(self, targets: tuple[Target, ...]) -> None:
        self._targets = [target for target in targets if target.weight > 0]
        self._total = sum(target.weight for target in self._targets)
        self._credit = [0.0] * len(self._targets)

    def next(self) -> Target | None:
        """The target of the next request; None when no target gets traffic."""
        if not self._targets:
            return None
        best = 0
        for index, target in enumerate(self._targets):
            self._credit[index] += target.weight
            if self._credit[index] > self._credit[best]:
                best = index
        self._credit[best] -= self._total
        return self._targets[best]
