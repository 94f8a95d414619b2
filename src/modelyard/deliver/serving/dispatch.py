"""From an endpoint to an answer: which deployment is asked, which of its workers, and what a lost worker costs."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.deliver.serving import frames
from modelyard.deliver.serving.door import Headers
from modelyard.deliver.serving.errors import Refused
from modelyard.deliver.serving.frames import Frame
from modelyard.deliver.serving.paths import Asked
from modelyard.deliver.serving.routing import Endpoint, Limits, Split, Target
from modelyard.deliver.serving.stats import Counters
from modelyard.deliver.serving.upstream import Pool, Upstream, WorkerLost

RESPAWN_POLL_S = 0.05
RETRY_S = "5"
"""When to ask again for a version whose workers cannot start: they are tried for as long as they are wanted."""
LOOK_S = 0.1
"""How often a request that waits for a worker looks whether its deployment still has traffic."""
MOST_SENT = 2
"""A request that two workers were lost over is not given to a third: it may be what ends them."""


class Withdrawn(Exception):
    """The deployment lost its traffic while a request waited for its worker; `sent` workers were given it."""

    def __init__(self, sent: int) -> None:
        super().__init__(f"withdrawn after {sent}")
        self.sent = sent


def choose(name: str, endpoint: Endpoint, split: Split, asked: Asked, headers: Headers) -> tuple[Target, bool]:
    """(the deployment that answers a request, whether the request names it): addressed by header or version, by
    rule, by key, or by weight.

    Raises Refused when it is not there or has no workers.
    """
    target = _named(name, endpoint, asked, headers)
    named = target is not None
    if target is None:
        key = headers.get(endpoint.sticky.encode()) if endpoint.sticky else None
        target = split.next() if key is None else split.of_key(name.encode() + b"\0" + key)
    if target is None or not target.sockets:
        raise Refused(503, f"{name} has no deployment that serves.", retry_after="1")
    return target, named


def choose_to_describe(name: str, endpoint: Endpoint, asked: Asked, headers: Headers) -> Target:
    """The deployment that tells of its model: addressed, or the one with most traffic, whose turn it need not be.

    Raises Refused when it is not there or has no workers.
    """
    target = _named(name, endpoint, asked, headers) or max(endpoint.routes, key=lambda t: t.weight, default=None)
    if target is None or not target.sockets:
        raise Refused(503, f"{name} has no deployment that serves.", retry_after="1")
    return target


def choose_to_count(name: str, endpoint: Endpoint, asked: Asked, headers: Headers) -> tuple[Target, ...]:
    """The deployments whose statistics are asked: the addressed one, or all. Raises Refused when it is not there."""
    target = _addressed(name, endpoint, asked, headers)
    return endpoint.routes if target is None else (target,)


def still_serves(name: str, endpoint: Endpoint | None, target: Target, asked: Asked, headers: Headers) -> bool:
    """Whether a request that was given to a deployment would still be: it has traffic, or the request names it."""
    if endpoint is None:
        return False
    shared = any(item.deployment == target.deployment and item.weight > 0 for item in endpoint.routes)
    if shared:
        return True
    try:
        named = _named(name, endpoint, asked, headers)
    except Refused:
        return False
    return named is not None and named.deployment == target.deployment


def _named(name: str, endpoint: Endpoint, asked: Asked, headers: Headers) -> Target | None:
    target = _addressed(name, endpoint, asked, headers)
    return _by_rule(endpoint, headers) if target is None and endpoint.rules else target


def _addressed(name: str, endpoint: Endpoint, asked: Asked, headers: Headers) -> Target | None:
    wanted = headers.get(b"x-modelyard-deployment")
    if wanted is not None:
        for target in (*endpoint.routes, *endpoint.shadow):
            if target.deployment.encode() == wanted:
                return target
        raise Refused(404, f"{name} has no such deployment.")
    version = asked.version or headers.get(b"x-modelyard-version", b"").decode("latin-1")
    if not version:
        return None
    found = [target for target in endpoint.routes if str(target.version) == version]
    if not found:
        served = ", ".join(str(target.version) for target in endpoint.routes) or "none"
        raise Refused(404, f"{name} serves no version {version[:20]!r}; it serves {served}.")
    return max(found, key=lambda target: target.weight)


def _by_rule(endpoint: Endpoint, headers: Headers) -> Target | None:
    for rule in endpoint.rules:
        if headers.get(rule.header.lower().encode()) == rule.value.encode():
            return next((target for target in endpoint.routes if target.deployment == rule.deployment), None)
    return None


@dataclass(slots=True)
class Demand:
    """What a deployment's workers are asked; `deadline` by the loop's clock."""

    target: Target
    meta: bytes
    body: bytes
    limits: Limits
    counters: Counters
    deadline: float

    def still(self) -> bool:
        """Whether the deployment may go on to answer it, asked when a worker is lost."""
        return True


class Dispatcher:
    """Asks workers; knows which are gone and waits for their successors."""

    def __init__(self) -> None:
        self.pool = Pool()
        self._revivals: dict[tuple[str, ...], asyncio.Task[None]] = {}
        self._failing: frozenset[str] = frozenset()

    async def ask(self, demand: Demand, sent: int = 0) -> Frame:
        """A worker's answer; a lost worker costs one retry. `sent`: how many workers were given it before.

        Raises Refused (502, 503), TimeoutError, Withdrawn.
        """
        upstream = self._pick(demand.target, asyncio.get_running_loop().time(), ())
        try:
            return await upstream.ask(frames.REQUEST, demand.meta, demand.body, demand.deadline)
        except (TimeoutError, WorkerLost) as error:
            return await self.after(error, demand, upstream, sent)

    def ready(self, target: Target) -> Upstream | None:
        """The connected worker that is asked next; None when that takes more than a look."""
        upstream = self.pool.of(target.sockets)
        return upstream if upstream.connected and upstream.open_until == 0.0 else None

    async def after(
        self, error: TimeoutError | WorkerLost, demand: Demand, upstream: Upstream, sent: int = 0
    ) -> Frame:
        """The answer to what a worker did not answer. Raises as `ask` does."""
        if isinstance(error, TimeoutError):
            limits = demand.limits
            demand.counters.circuits += upstream.timed_out(limits.breaker_failures, limits.breaker_open_s)
            raise error
        demand.counters.retries += 1
        return await self._again(demand, upstream, sent + error.sent)

    async def _again(self, demand: Demand, lost: Upstream, sent: int) -> Frame:
        """Ask another worker, or wait for the lost one's successor until the deadline."""
        loop = asyncio.get_running_loop()
        avoid = {lost}
        target = demand.target
        while True:
            if sent >= MOST_SENT:
                raise Refused(502, "The workers that were given this request were lost over it.")
            if not demand.still():
                raise Withdrawn(sent)
            if len(avoid) >= len(target.sockets):
                if self._failing.issuperset(target.sockets):
                    raise Refused(
                        503,
                        "This version's workers cannot start: they end again and again before they answer.",
                        retry_after=RETRY_S,
                    )
                if not await self._revived(target.sockets, demand.deadline):
                    continue
                avoid.clear()
            upstream = self._pick(target, loop.time(), avoid)
            try:
                return await upstream.ask(frames.REQUEST, demand.meta, demand.body, demand.deadline)
            except WorkerLost as again:
                sent += again.sent
                avoid.add(upstream)

    def _pick(self, target: Target, now: float, avoid: "set[Upstream] | tuple[()]") -> Upstream:
        upstream = self.pool.of(target.sockets, avoid)
        if upstream.open_until == 0.0:
            return upstream
        for socket in target.sockets:
            other = self.pool.at(socket)
            if other not in avoid and other.available(now):
                return other
        raise Refused(503, "The deployment's workers do not answer in time; they are given a pause.", retry_after="5")

    async def _revived(self, sockets: tuple[str, ...], deadline: float) -> bool:
        """Whether one of the workers can be connected to within a moment; all that wait share one look.

        Raises TimeoutError after the deadline.
        """
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline:
            raise TimeoutError
        task = self._revival(sockets)
        done, _ = await asyncio.wait({task}, timeout=min(LOOK_S, deadline - loop.time()))
        return bool(done)

    def _revival(self, sockets: tuple[str, ...]) -> "asyncio.Task[None]":
        """The task that ends once one of the workers is connected to."""
        task = self._revivals.get(sockets)
        if task is None or task.done():
            task = self._revivals[sockets] = asyncio.ensure_future(self._revive(sockets))
            task.add_done_callback(lambda _: self._revivals.pop(sockets, None))
        return task

    def give_up(self, failing: frozenset[str]) -> None:
        """Let no request wait for workers that cannot start; that one of them can by now is seen without any."""
        self._failing = failing
        for socket in failing:
            self._revival((socket,))

    def awaited(self, socket: str) -> bool:
        """Whether requests wait until a worker can be connected to there."""
        return any(socket in sockets for sockets in self._revivals)

    async def _revive(self, sockets: Sequence[str]) -> None:
        while self.pool.keeps(sockets):
            for socket in sockets:
                try:
                    await self.pool.at(socket).connect()
                except WorkerLost:
                    continue
                return
            await asyncio.sleep(RESPAWN_POLL_S)
