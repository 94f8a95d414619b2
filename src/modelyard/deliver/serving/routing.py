"""Where requests go: the routing file, atomically replaced by the controller, read by the gateway."""

import hashlib
import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from modelyard.domain import locations

LEAST_DRAIN_S, MOST_DRAIN_S = 10.0, 60.0
"""How long a gateway that ends waits for answers under way: as long as any may take, within these."""


class Scale(msgspec.Struct, frozen=True):
    """Between how many workers a deployment has; `concurrency` is what one of them is to have under way."""

    min: Annotated[int, msgspec.Meta(ge=0)]
    max: Annotated[int, msgspec.Meta(ge=1)]
    concurrency: Annotated[float, msgspec.Meta(gt=0)]
    down_after_s: float
    idle_s: float


class Target(msgspec.Struct, frozen=True):
    """A deployment that answers: its workers' sockets and its share of the traffic. With `scale` not all run.

    columns: its model's, in their order, where the log leaves some out.
    """

    deployment: str
    version: int
    sockets: tuple[str, ...]
    weight: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    scale: Scale | None = None
    columns: tuple[str, ...] = ()


class Limits(msgspec.Struct, frozen=True):
    """breaker: so many requests in a row that run out of time close a worker off for that long."""

    max_body_bytes: int = 6_291_456
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    max_concurrency: int = 256
    breaker_failures: Annotated[int, msgspec.Meta(ge=1)] = 5
    breaker_open_s: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    max_shadows: int = 64


class QueuePolicy(msgspec.Struct, frozen=True):
    """Asynchronous requests: how many and how many bytes may wait, how many are asked at a time, how long each may
    take, how often it is tried, how long it and its answer are kept.

    inputs, outputs: prefixes of object stores, with a slash at their ends, below which requests' inputs may lie and
    below which their answers are written; without `outputs` none may name an object.
    """

    max_requests: int = 1000
    max_bytes: int = 268_435_456
    concurrency: Annotated[int, msgspec.Meta(ge=1)] = 1
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 3600.0
    attempts: Annotated[int, msgspec.Meta(ge=1)] = 3
    keep_s: Annotated[float, msgspec.Meta(gt=0)] = 86_400.0
    inputs: tuple[str, ...] = ()
    outputs: str = ""
    max_input_bytes: int = 64_000_000

    def may_read(self, location: str) -> bool:
        """Whether an object may be a request's input; an answer never is one."""
        return locations.below(location, self.inputs) and not self.may_write(location)

    def may_write(self, location: str) -> bool:
        return bool(self.outputs) and locations.below(location, (self.outputs,))


class LogPolicy(msgspec.Struct, frozen=True):
    """redact: columns that are never written; capture: `durable` answers only when the record is on the disk."""

    folder: str
    sample: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    redact: tuple[str, ...] = ()
    capture: Literal["buffered", "durable"] = "buffered"


class Rule(msgspec.Struct, frozen=True):
    """Requests whose header has this value go to this deployment, whatever the weights."""

    header: str
    value: str
    deployment: str


class Endpoint(msgspec.Struct, frozen=True):
    """sticky: the header whose value keeps its deployment while the weights stay, such as `x-user-id`.

    task: what the project declares of the model; labels have to fit it.
    """

    model: str
    routes: tuple[Target, ...]
    shadow: tuple[Target, ...] = ()
    limits: Limits = Limits()
    log: LogPolicy | None = None
    sticky: str | None = None
    rules: tuple[Rule, ...] = ()
    queue: QueuePolicy = QueuePolicy()
    task: str = ""


class Routing(msgspec.Struct, frozen=True):
    """`tokens` maps the SHA-256 digests of tokens that may invoke to their principals; `labelers` may send labels.

    others: the digests of tokens that hold, but may do neither.
    porter: the socket of the process that reads and writes object stores; empty where no endpoint needs one.
    """

    environment: str
    revision: int
    tokens: dict[str, str] = {}
    labelers: dict[str, str] = {}
    others: frozenset[str] = frozenset()
    endpoints: dict[str, Endpoint] = {}
    hosts: tuple[str, ...] = ()
    porter: str = ""


class RoutingFile:
    """The newest good routing of a file; a damaged or missing file leaves the last good one in force.

    `written` is what the file says, `current` what is in force: those workers of it that run.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self.written: Routing | None = None
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
        self._seen, self.written, self.current, self.error = mark, routing, routing, ""
        return True


class Split:
    """Smooth weighted round robin: the share of each target is exact over any window of requests.

    With a key: the same key gets the same target, and while one target's share grows at another's cost, keys move
    only from the one to the other.
    """

    def __init__(self, targets: tuple[Target, ...]) -> None:
        self._targets = [target for target in targets if target.weight > 0]
        self._total = sum(target.weight for target in self._targets)
        self._credit = [0.0] * len(self._targets)

    def next(self) -> Target | None:
        """The target of the next request; None when no target gets traffic."""
        if len(self._targets) < 2:
            return self._targets[0] if self._targets else None
        best = 0
        for index, target in enumerate(self._targets):
            self._credit[index] += target.weight
            if self._credit[index] > self._credit[best]:
                best = index
        self._credit[best] -= self._total
        return self._targets[best]

    def of_key(self, key: bytes) -> Target | None:
        """The target that a key belongs to."""
        if not self._targets:
            return None
        place = int.from_bytes(hashlib.sha256(key).digest()[:8]) / 2**64 * self._total
        for target in self._targets:
            place -= target.weight
            if place < 0:
                return target
        return self._targets[-1]
