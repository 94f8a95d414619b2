"""How many workers a deployment has: by its load, within limits; the gateway decides, the supervisor follows.

Up as soon as more is under way than its workers are to have, down only after a while of less, to none after an idle
time where that is allowed. A worker gets requests once it answers, and is stopped once it has none.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.serving import probe
from modelyard.deliver.serving.routing import Routing, Scale, Target
from modelyard.deliver.serving.upstream import Pool, Upstream
from modelyard.kit.files import atomic_write

FILE = "scale.json"
SMOOTHING_S = 0.5
"""Time constant of the mean of what is under way: shorter peaks start no worker."""
SLACK = 0.8
"""Fewer workers do when this share of what they are to have would be enough: no back and forth at the edge."""


def wanted(folder: Path) -> dict[str, int]:
    """{deployment: workers} as the gateway of an environment wants them; empty before it said so."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes())["workers"]
    except (FileNotFoundError, msgspec.DecodeError, KeyError):
        return {}


class Scaler:
    """The number for one deployment, from looks at what is under way there."""

    def __init__(self, scale: Scale, count: int, now: float) -> None:
        self.scale, self.count = scale, count
        self._mean, self._looked, self._active = 0.0, now, now
        self._needs: deque[tuple[float, int]] = deque()

    def look(self, now: float, under_way: int, *, active: bool, may_sleep: bool) -> int:
        """The number of workers from now on. active: whether any request came since the last look."""
        scale = self.scale
        self._mean += (under_way - self._mean) * (1 - math.exp((self._looked - now) / SMOOTHING_S))
        self._looked = now
        if active or under_way:
            self._active = now
        lowest, busy = max(1, scale.min), self._mean / scale.concurrency
        up = min(scale.max, max(lowest, math.ceil(busy)))
        enough = self._most_needed(now, min(scale.max, max(lowest, math.ceil(busy / SLACK))))
        if under_way and not self.count:
            self.count = lowest
        elif scale.min == 0 and may_sleep and now - self._active > scale.idle_s:
            self.count = 0
        elif self.count:
            self.count = max(up, min(self.count, enough))
        elif not may_sleep:
            self.count = lowest
        return self.count

    def _most_needed(self, now: float, need: int) -> int:
        """The largest need of the last `down_after_s`; those that a later one is not below are forgotten."""
        while self._needs and self._needs[-1][1] <= need:
            self._needs.pop()
        self._needs.append((now, need))
        while self._needs[0][0] < now - self.scale.down_after_s:
            self._needs.popleft()
        return self._needs[0][1]


@dataclass
class Crew:
    """The workers of one deployment: `ready` of its sockets get requests, `told` shall run."""

    target: Target
    scaler: Scaler
    ready: int
    told: int
    answered: int = 0
    leaving: list[Upstream] = field(default_factory=list[Upstream])
    starting: "asyncio.Task[dict[str, Any] | None] | None" = None


class Fleet:
    """Every scaled deployment of a gateway."""

    def __init__(
        self,
        folder: Path,
        pool: Pool,
        awaited: Callable[[str], bool],
        answered: Callable[[str, Target], int],
    ) -> None:
        """awaited: whether requests wait for a worker at a socket; answered: how many a deployment answered."""
        self._folder, self._pool, self._awaited, self._answered = folder, pool, awaited, answered
        self._crews: dict[str, Crew] = {}
        self._names: dict[str, str] = {}
        self._awake: set[str] = set()
        self._said = wanted(folder)
        self.changed = False
        self.error = ""

    def adopt(self, routing: Routing) -> None:
        """Know the scaled deployments of a routing; those that are new begin as the gateway before left them."""
        now, held, crews = asyncio.get_running_loop().time(), self._said, dict[str, Crew]()
        self._names, self._awake = {}, set()
        for name, endpoint in routing.endpoints.items():
            sharing = sum(target.weight > 0 for target in endpoint.routes)
            for target in (*endpoint.routes, *endpoint.shadow):
                if target.scale is None:
                    continue
                self._names[target.deployment] = name
                if sharing > 1 or target.weight == 0 or endpoint.shadow:  # warm, coming or compared: never asleep
                    self._awake.add(target.deployment)
                count = min(held.get(target.deployment, max(1, target.scale.min)), target.scale.max)
                crew = self._crews.get(target.deployment)
                if crew is None or crew.scaler.scale != target.scale:
                    crew = Crew(target, Scaler(target.scale, count, now), min(1, count), count)
                crew.target = target
                crews[target.deployment] = crew
        self._crews = crews
        self._tell()

    def shown(self, routing: Routing) -> Routing:
        """The routing with those workers alone that answer; one that sleeps keeps its first, to be woken at."""
        if not self._crews:
            return routing
        endpoints = {
            name: msgspec.structs.replace(
                endpoint, routes=tuple(map(self._cut, endpoint.routes)), shadow=tuple(map(self._cut, endpoint.shadow))
            )
            for name, endpoint in routing.endpoints.items()
        }
        return msgspec.structs.replace(routing, endpoints=endpoints)

    def _cut(self, target: Target) -> Target:
        crew = self._crews.get(target.deployment)
        if crew is None or target.scale is None:
            return target
        return msgspec.structs.replace(target, sockets=target.sockets[: max(1, crew.ready)])

    def look(self) -> None:
        """Take every deployment's load, and start or stop workers by it; `changed` when requests go elsewhere now."""
        now = asyncio.get_running_loop().time()
        for deployment, crew in self._crews.items():
            answered = self._answered(self._names[deployment], crew.target)
            sockets = crew.target.sockets[: max(1, crew.ready)]
            waits = self._awaited(sockets[0])
            under_way = sum(self._pool.load(socket) for socket in sockets) + waits
            want = crew.scaler.look(
                now, under_way, active=answered != crew.answered, may_sleep=deployment not in self._awake
            )
            crew.answered = answered
            self._follow(crew, want)
        self._tell()

    def _follow(self, crew: Crew, want: int) -> None:
        """Route to fewer at once, to more once they answer; stop what has nothing left to answer."""
        if want < crew.ready:
            crew.leaving += [self._pool.at(socket) for socket in crew.target.sockets[max(1, want) : crew.ready]]
            crew.ready, self.changed = want, True
        crew.leaving = [upstream for upstream in crew.leaving if not upstream.idle]
        if want > crew.told or not crew.leaving:
            crew.told = want
        if crew.starting is not None and crew.starting.done():
            up, crew.starting = crew.starting.exception() is None and crew.starting.result() is not None, None
            if up and crew.ready < crew.told:
                crew.ready += 1
                self.changed = True
        if crew.starting is None and crew.ready < crew.told:
            crew.starting = asyncio.ensure_future(probe.ask(crew.target.sockets[crew.ready]))

    def _tell(self) -> None:
        counts = {deployment: crew.told for deployment, crew in self._crews.items()}
        if counts == self._said:
            return
        try:
            atomic_write(self._folder / FILE, msgspec.json.encode({"workers": counts}), mode=0o600, durable=False)
        except OSError as error:  # a full disk: the workers that run go on, the next look tries again
            self.error = f"The number of workers cannot be written: {error.strerror or error}."
        else:
            self._said, self.error = counts, ""

    def asleep(self, deployment: str) -> bool:
        """Whether a deployment has no worker because nobody asks; a request wakes it."""
        crew = self._crews.get(deployment)
        return crew is not None and crew.told == 0

    def told(self) -> dict[str, dict[str, int]]:
        """{deployment: {"ready", "wanted", "min", "max"}}."""
        return {
            deployment: {
                **{"ready": crew.ready, "wanted": crew.told},
                **{"min": crew.scaler.scale.min, "max": crew.scaler.scale.max},
            }
            for deployment, crew in self._crews.items()
        }
