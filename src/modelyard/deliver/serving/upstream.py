"""The gateway's connections to workers: one multiplexed connection a socket, made again when it is lost."""

import asyncio
import itertools
from collections.abc import Callable, Collection, Sequence

from modelyard.deliver.serving import far, frames
from modelyard.deliver.serving.frames import Frame, FrameConnection
from modelyard.kit.processes import is_ending

SWEEP_S = 0.05
"""How often waiting requests are looked over for those whose time is up."""

REST_S = 1.0


class WorkerLost(Exception):
    """The connection ended before the answer came. `sent`: whether the worker may have worked on the request."""

    def __init__(self, message: str, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


Outcome = Frame | WorkerLost | TimeoutError
Settle = Callable[[Outcome], None]


class Upstream:
    """One worker's socket, and the circuit breaker before it.

    A worker that let `breaker_failures` requests in a row run out of time is passed over for `breaker_open_s`; then
    one request tries it.
    """

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self._connection: FrameConnection | None = None
        self._connecting: asyncio.Lock = asyncio.Lock()
        self._waiting: dict[int, tuple[Settle, float]] = {}
        self._ids = itertools.count(1)
        self._sweeper: asyncio.TimerHandle | None = None
        self._leaving = False
        self.connections = 0
        """How many were made."""
        self.timeouts_in_a_row = 0
        self.open_until = 0.0
        self.rests_until = 0.0
        """Until then its machine, which was silent, is not called again."""

    async def ask(self, kind: int, meta: bytes, body: bytes, deadline: float = float("inf")) -> Frame:
        """The worker's answer; `deadline` by the loop's clock. Raises WorkerLost, TimeoutError."""
        if not self.connected:
            await self.connect()
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()

        def settle(outcome: Outcome) -> None:
            if future.done():
                return
            if isinstance(outcome, Frame):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)

        number = self.put(kind, meta, body, deadline, settle)
        try:
            return await future
        finally:
            self._waiting.pop(number, None)
            self._leave_if_idle()

    def put(self, kind: int, meta: bytes, body: bytes, deadline: float, settle: Settle) -> int:
        """Send over the open connection; `settle` is called once with what came of it. The request's number."""
        assert self._connection is not None
        number = next(self._ids)
        self._waiting[number] = (settle, deadline)
        if self._sweeper is None and deadline != float("inf"):
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        self._connection.send(frames.encode(number, kind, meta, body))
        return number

    def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        if self._connection is not None:
            self._connection.close()

    def leave(self) -> None:
        """Close once the last answer came."""
        self._leaving = True
        self._leave_if_idle()

    @property
    def idle(self) -> bool:
        return not self._waiting

    @property
    def load(self) -> int:
        return len(self._waiting)

    @property
    def connected(self) -> bool:
        return self._connection is not None and self._connection.open

    async def connect(self) -> FrameConnection:
        """The open connection, made if need be. Raises WorkerLost."""
        async with self._connecting:
            if self._connection is not None and self._connection.open:
                return self._connection
            loop = asyncio.get_running_loop()
            if loop.time() < self.rests_until:
                raise WorkerLost(f"{self.socket}: its machine did not answer just now")
            try:
                made = await far.connect(self.socket, lambda: FrameConnection(self._received, self._lost))
            except TimeoutError as error:
                self.rests_until = loop.time() + REST_S
                raise WorkerLost(f"{self.socket}: its machine does not answer") from error
            except OSError as error:
                raise WorkerLost(f"{self.socket}: {error}") from error
            if not made.open:
                raise WorkerLost(f"{self.socket}: it hung up at once")
            if is_ending(made.peer_pid()):
                made.close()
                raise WorkerLost(f"{self.socket}: its process is ending")
            self._connection = made
            self.connections += 1
            return made

    def timed_out(self, failures: int, open_s: float) -> bool:
        """Note a request that ran out of time; whether that opened the circuit."""
        self.timeouts_in_a_row += 1
        if self.timeouts_in_a_row < failures:
            return False
        self.open_until = asyncio.get_running_loop().time() + open_s
        return True

    def available(self, now: float) -> bool:
        """Whether a request may be sent. After the circuit's time, the one that asks first is the trial."""
        if self.open_until == 0.0:
            return True
        if now < self.open_until:
            return False
        self.open_until = now + SWEEP_S * 20
        return True

    def _received(self, _: FrameConnection, received: list[Frame]) -> None:
        self.timeouts_in_a_row, self.open_until = 0, 0.0
        for frame in received:
            found = self._waiting.pop(frame.id, None)
            if found is not None:
                found[0](frame)
        self._leave_if_idle()

    def _lost(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for settle, _ in waiting.values():
            settle(WorkerLost(self.socket, sent=True))

    def _sweep(self) -> None:
        """End the wait of requests whose time is up."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for number in [number for number, (_, deadline) in self._waiting.items() if deadline <= now]:
            self._waiting.pop(number)[0](TimeoutError())
        self._sweeper = loop.call_later(SWEEP_S, self._sweep) if self._waiting else None
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if self._leaving and not self._waiting:
            self.close()


class Pool:
    """Upstreams by socket; those no longer routed to are closed once their last answer came."""

    def __init__(self) -> None:
        self._held: dict[str, Upstream] = {}
        self._turn = itertools.count()

    def of(self, sockets: Sequence[str], avoid: Collection[Upstream] = ()) -> Upstream:
        """The worker with the least to do, in turn among equals; one to `avoid` only if there is no other."""
        if len(sockets) == 1:
            return self.at(sockets[0])
        turn, now = next(self._turn), asyncio.get_running_loop().time()
        found = [self.at(sockets[(turn + offset) % len(sockets)]) for offset in range(len(sockets))]
        return min(found, key=lambda upstream: (upstream in avoid, now < upstream.rests_until, upstream.load))

    def at(self, socket: str) -> Upstream:
        found = self._held.get(socket)
        if found is None:
            found = self._held[socket] = Upstream(socket)
        return found

    def load(self, socket: str) -> int:
        """How many requests a worker has; none where nobody was sent there."""
        found = self._held.get(socket)
        return found.load if found is not None else 0

    def keeps(self, sockets: Sequence[str]) -> bool:
        """Whether any of them is still held."""
        return any(socket in self._held for socket in sockets)

    def keep(self, sockets: set[str]) -> None:
        for socket, upstream in list(self._held.items()):
            if socket not in sockets:
                upstream.leave()
                del self._held[socket]
