"""The gateway's connections to workers: one multiplexed connection a socket, made again when it is lost."""

import asyncio
import itertools
from collections.abc import Sequence

from modelyard.deliver.serving import frames
from modelyard.deliver.serving.frames import Frame, FrameConnection


class WorkerLost(Exception):
    """The connection ended before the answer came."""


class Upstream:
    """One worker's socket."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._connection: FrameConnection | None = None
        self._connecting: asyncio.Lock = asyncio.Lock()
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._ids = itertools.count(1)

    async def ask(self, kind: int, meta: bytes, body: bytes) -> Frame:
        """The worker's answer. Raises WorkerLost."""
        connection = self._connection if self._connection and self._connection.open else await self._connect()
        number = next(self._ids)
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        connection.send(frames.encode(number, kind, meta, body))
        try:
            return await future
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def idle(self) -> bool:
        return not self._waiting

    async def _connect(self) -> FrameConnection:
        async with self._connecting:
            if self._connection is not None and self._connection.open:
                return self._connection
            loop = asyncio.get_running_loop()
            try:
                _, made = await loop.create_unix_connection(
                    lambda: FrameConnection(self._received, self._lost), self._socket
                )
            except OSError as error:
                raise WorkerLost(f"{self._socket}: {error}") from error
            self._connection = made
            return made

    def _received(self, _: FrameConnection, received: list[Frame]) -> None:
        for frame in received:
            future = self._waiting.get(frame.id)
            if future is not None and not future.done():
                future.set_result(frame)

    def _lost(self) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(WorkerLost(self._socket))


class Pool:
    """Upstreams by socket; those no longer routed to are closed once their last answer came."""

    def __init__(self) -> None:
        self._held: dict[str, Upstream] = {}
        self._turn = itertools.count()

    def of(self, sockets: Sequence[str], attempt: int = 0) -> Upstream:
        """An upstream of a deployment: the next in turn, another one on a second attempt."""
        socket = sockets[(next(self._turn) + attempt) % len(sockets)]
        found = self._held.get(socket)
        if found is None:
            found = self._held[socket] = Upstream(socket)
        return found

    def keep(self, sockets: set[str]) -> None:
        for socket, upstream in list(self._held.items()):
            if socket not in sockets and upstream.idle:
                upstream.close()
                del self._held[socket]
