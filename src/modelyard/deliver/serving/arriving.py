"""Bounds on requests that are still on their way: how large their head may be, how long they may take."""

import asyncio

import httptools

from modelyard.deliver.serving.direct import DataPath

HEAD_S, MESSAGE_S = 20.0, 120.0
"""How long a request may take to arrive: its head, and the whole of it."""
LOOK_S = 5.0
MOST_HEAD = 65_536


class BoundedPath(DataPath):
    """One connection of a caller, which is hung up on when it sends too slowly or a head without end."""

    _since: float | None = None
    """When the message began that is still on its way; None between messages."""
    _head: int | None = 0
    """Bytes of its head so far; None once that is whole."""
    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.idle_since = self.loop.time()
        self._look = self.loop.call_later(min(LOOK_S, self.timeout_keep_alive), self._look_again)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._look is not None:
            self._look.cancel()

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += len(data)
        try:
            super().data_received(data)
        except (UnicodeDecodeError, httptools.HttpParserError):  # a target that is no path, such as CONNECT's
            self.refuse(400, "Bad Request", "The request's target is no path.")
        if self._head is not None and self._head > MOST_HEAD and not self.transport.is_closing():
            self.refuse(431, "Request Header Fields Too Large", f"The head is larger than {MOST_HEAD} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._since, self._head = self.loop.time(), 0

    def on_headers_complete(self) -> None:
        self._head = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._since = None
        super().on_message_complete()

    def _look_again(self) -> None:
        now = self.loop.time()
        late = None if self._since is None else now - self._since
        if late is not None and late > (MESSAGE_S if self._head is None else HEAD_S):
            self.refuse(408, "Request Timeout", "The request did not arrive in time.")
        elif self.unused(now):
            self.transport.close()
        else:
            self._look = self.loop.call_later(min(LOOK_S, self.timeout_keep_alive), self._look_again)
