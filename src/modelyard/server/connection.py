"""uvicorn's HTTP connection, which answers brief calls itself and lends its socket to whoever moves a large body."""

import asyncio
import os
import select
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import httptools
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from modelyard.domain.errors import ModelyardError
from modelyard.kit.hashing import CHUNK
from modelyard.server.brief_calls import Accepted, BriefCalls, Judged
from modelyard.server.http import JSON_HEADERS

EXTENSION = "modelyard.connection"
JSON_HEAD = STATUS_LINE[200] + b"".join(b"%s: %s\r\n" % header for header in JSON_HEADERS) + b"content-length: "
STINT = 64 << 20
"""Most bytes that one turn of a thread sends: then others come first."""
PATIENCE_MS = 20
"""How long a thread waits for a peer; for a slower one the event loop waits, which holds no thread."""

Pieces = AsyncIterator[bytes | memoryview]


class _Heard:
    """What nobody waits for."""

    def set(self) -> None:
        pass


class Answering:
    """Stands where uvicorn keeps a request's cycle while the connection answers a brief call itself."""

    scope = None
    waiting_for_100_continue = False
    message_event = _Heard()

    def __init__(self) -> None:
        self.response_complete = self.disconnected = False
        self.keep_alive = True


class Connection(HttpToolsProtocol):
    """A connection without TLS puts itself into the scope of its requests, under `EXTENSION`.

    A brief call (`server.brief_calls`) gets neither scope nor task: its work is done when the body is there.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        application: Any = self.config.app
        self._calls: BriefCalls = application.brief
        self._accepted: Accepted | None = None
        self._judged: Judged | None = None
        self._running: RequestResponseCycle | None = None
        self._body = bytearray()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._extensions: dict[str, Any] = {EXTENSION: self} if self.scheme == "http" else {}

    def connection_lost(self, exc: Exception | None) -> None:
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle  # uvicorn itself remembers the last of pipelined requests, not the one under way
        super()._start_asgi_task(cycle, app)

    def on_message_begin(self) -> None:
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._accepted = None

    def on_headers_complete(self) -> None:
        self._accepted = self._brief()
        if self._accepted is None:
            url, headers, expects = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.expect_100_continue = url, expects
            self.headers += headers
            self.scope["extensions"] = self._extensions
            super().on_headers_complete()
        else:
            cycle: Any = Answering()
            self.cycle, self._body = cycle, bytearray()

    def on_body(self, body: bytes) -> None:
        if self._accepted is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        accepted, self._accepted = self._accepted, None
        if accepted is None:
            super().on_message_complete()
        else:
            cycle = self.cycle
            accepted.run(bytes(self._body), lambda *answer: self._answer(cycle, *answer))

    def _brief(self) -> Accepted | None:
        """The request as a brief call, when nothing else is under way and nothing about it is special."""
        parser, cycle = self.parser, cast(RequestResponseCycle | Answering | None, self.cycle)
        if cycle is not None and not cycle.response_complete:
            return None
        if self.flow.write_paused or self.expect_100_continue or parser.should_upgrade():
            return None
        if parser.get_http_version() != "1.1" or not parser.should_keep_alive():
            return None
        found = self._calls.accept(parser.get_method(), self.url, self.headers, self._judged)
        if found is None:
            return None
        accepted, self._judged = found
        return accepted

    def _answer(self, cycle: Any, status: int, headers: Sequence[tuple[bytes, bytes]] | None, body: bytes) -> None:
        cycle.response_complete = True
        if self.transport.is_closing():
            return
        if headers is None:
            head = b"%s%d\r\n" % (JSON_HEAD, len(body))
        else:
            head = STATUS_LINE[status] + b"".join(b"%s: %s\r\n" % header for header in headers)
        last = b"" if cycle.keep_alive else b"connection: close\r\n"
        self.transport.write(b"%s%s\r\n%s" % (head, last, body))
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def serves(self, scope: Mapping[str, Any]) -> bool:
        """Whether the socket is all that request's: no other is pipelined with it, none waits for a go-ahead."""
        cycle = self.cycle
        return cycle.scope is scope and not self.pipeline and not cycle.waiting_for_100_continue

    async def send_file(self, file: int, start: int, count: int) -> None:
        """Send bytes of a file as the next part of the body, by the kernel. Raises ClientDisconnect."""
        await self._written()
        self.cycle.expected_content_length -= count
        end = start + count
        with self._borrowed() as link:
            try:
                while start < end:
                    start += await _moved(link, select.POLLOUT, lambda at=start: _send(link, file, at, end - at))
            except OSError as error:
                raise self._lost() from error

    @asynccontextmanager
    async def body(self, length: int) -> AsyncGenerator[Pieces]:
        """The pieces of a body of `length` bytes, read from the socket itself; each is valid until the next.

        Raises ClientDisconnect.
        """
        self.flow.pause_reading()
        held, self.cycle.body = self.cycle.body, bytearray()
        with self._borrowed() as link:
            async with aclosing(_pieces(link, held, length - len(held))) as pieces:
                try:
                    yield pieces
                    await _finish(pieces)
                except ModelyardError:
                    await _finish(pieces)  # a client reads the answer when it has sent everything
                    raise
                except ConnectionError as error:
                    raise self._lost() from error
                finally:
                    self.parser = httptools.HttpRequestParser(self)  # the former one still waits for this body
        self.cycle.more_body = False

    async def _written(self) -> None:
        """Wait until the socket has what was written before."""
        transport: Any = self.transport
        transport.set_write_buffer_limits(high=0)
        while transport.get_write_buffer_size() and not self.cycle.disconnected:
            await asyncio.sleep(0)
            await self.flow.drain()
        transport.set_write_buffer_limits()

    def _borrowed(self) -> socket.socket:
        """The socket under a descriptor of its own, which the event loop allows others to wait for."""
        if self.cycle.disconnected:
            raise ClientDisconnect
        return socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno()))

    def _lost(self) -> ClientDisconnect:
        self.cycle.disconnected = True
        self.transport.abort()
        return ClientDisconnect()


async def _pieces(link: socket.socket, held: bytearray, left: int) -> AsyncGenerator[bytes | memoryview]:
    """What was received already, then the rest: a piece is read while the one before is worked on."""
    buffers = [memoryview(bytearray(CHUNK)) for _ in range(2)]
    number, reading = 0, _reading(link, buffers[0][:left])
    try:
        yield bytes(held)
        while left:
            got = await reading
            left -= got
            piece, number = buffers[number][:got], 1 - number
            reading = _reading(link, buffers[number][:left])
            yield piece
    finally:
        reading.cancel()
        await asyncio.wait([reading])


async def _finish(pieces: Pieces) -> None:
    async for _ in pieces:
        pass


def _reading(link: socket.socket, into: memoryview) -> "asyncio.Task[int]":
    return asyncio.create_task(_moved(link, select.POLLIN, lambda: _receive(link, into)))


async def _moved(link: socket.socket, event: int, move: Callable[[], int | None]) -> int:
    """The bytes moved by a turn of a thread that moved any."""
    while (moved := await _in_thread(move)) is None:
        await _ready(link, event)
    return moved


async def _in_thread(move: Callable[[], int | None]) -> int | None:
    turn = asyncio.get_running_loop().run_in_executor(None, move)
    try:
        return await asyncio.shield(turn)
    except asyncio.CancelledError:
        await asyncio.wait([turn])  # its descriptors may not be closed under it
        raise


async def _ready(link: socket.socket, event: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    add, remove = (
        (loop.add_reader, loop.remove_reader) if event == select.POLLIN else (loop.add_writer, loop.remove_writer)
    )
    add(link.fileno(), lambda: ready.done() or ready.set_result(None))
    try:
        await ready
    finally:
        remove(link.fileno())


def _receive(link: socket.socket, into: memoryview) -> int | None:
    """Fill a buffer as far as the peer is quick; None when nothing came. Raises ConnectionError at its end."""
    got = 0
    while got < len(into):
        try:
            count = link.recv_into(into[got:])
        except BlockingIOError:
            if _patient(link, select.POLLIN):
                continue
            return got or None
        if count == 0:
            raise ConnectionResetError
        got += count
    return got


def _send(link: socket.socket, file: int, start: int, count: int) -> int | None:
    """Send as far as the peer is quick, a stint at most; None when it took nothing."""
    sent, most = 0, min(count, STINT)
    while sent < most:
        try:
            moved = os.sendfile(link.fileno(), file, start + sent, most - sent)
        except BlockingIOError:
            if _patient(link, select.POLLOUT):
                continue
            return sent or None
        if moved == 0:
            raise ConnectionAbortedError("the file is shorter than it was")
        sent += moved
    return sent


def _patient(link: socket.socket, event: int) -> bool:
    waiting = select.poll()
    waiting.register(link, event)
    return bool(waiting.poll(PATIENCE_MS))
