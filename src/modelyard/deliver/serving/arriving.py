"""Bounds on requests that are still on their way, and callers that end or offer more than HTTP/1.1 has."""

import asyncio
import re
from typing import NoReturn

import httptools

from modelyard.deliver.serving.direct import DataPath

HEAD_S, MESSAGE_S = 20.0, 120.0
"""How long a request may take to arrive: its head, and the whole of it."""
LOOK_S = 5.0
MOST_HEAD = 65_536
OFFER = re.compile(rb"(?<=\r\n)upgrade(?=:[ \t]*h2c[ \t]*\r\n)", re.IGNORECASE)


class BoundedPath(DataPath):
    """One connection of a caller, which is hung up on when it sends too slowly or a head without end."""

    _since: float | None = None
    """When the message began that is still on its way; None between messages."""
    _in_head = True
    """Whether what comes next belongs to a head."""
    _besides = 0
    """Bytes since the message began or its body last grew: its head, and then sizes of chunks and trailers."""
    _piece = 0
    """Bytes of what was read last."""
    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.idle_since = self.loop.time()
        self._look = self.loop.call_later(min(LOOK_S, self.timeout_keep_alive), self._look_again)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._look is not None:
            self._look.cancel()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Whether to stay: a caller that ends its side after whole requests waits for their answers."""
        if self._since is not None or self.cycle is None or self.cycle.response_complete or self.scheme != "http":
            return None
        self.cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        if self._in_head and b"h2c" in data:
            data = _without_offer(data)
        self._piece = len(data)
        self._besides += self._piece
        try:
            super().data_received(data)
        except (UnicodeDecodeError, httptools.HttpParserError):  # a target that is no path, such as CONNECT's
            self.refuse(400, "Bad Request", "The request's target is no path.")
        if self._besides > MOST_HEAD and not self.transport.is_closing():
            self.refuse(431, "Request Header Fields Too Large", f"The head is larger than {MOST_HEAD} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._since, self._in_head, self._besides = self.loop.time(), True, 0

    def on_headers_complete(self) -> None:
        if sum(name == b"host" for name, _ in self.headers) > 1:
            self._give_up(400, "Bad Request", "The request has more than one Host header.")
        large = self._piece + self._besides > MOST_HEAD
        if large and sum(len(name) + len(value) for name, value in self.headers) > MOST_HEAD:
            self._give_up(431, "Request Header Fields Too Large", f"The head is larger than {MOST_HEAD} bytes.")
        self._in_head, self._besides = False, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._besides = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._since, self._in_head, self._besides = None, True, 0
        super().on_message_complete()

    def _give_up(self, status: int, phrase: str, message: str) -> NoReturn:
        """End the parsing of this connection; the parser's owner then asks for the answer."""
        self.wrong = (status, phrase, message)
        raise ValueError(message)

    def _look_again(self) -> None:
        now = self.loop.time()
        late = None if self._since is None else now - self._since
        if late is not None and late > (HEAD_S if self._in_head else MESSAGE_S):
            self.refuse(408, "Request Timeout", "The request did not arrive in time.")
        elif self.unused(now):
            self.transport.close()
        else:
            self._look = self.loop.call_later(min(LOOK_S, self.timeout_keep_alive), self._look_again)

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: a caller that offers another protocol is answered in this one."""


def _without_offer(data: bytes) -> bytes:
    """A head that no longer offers HTTP/2, as Java's client does with each request and `curl --http2`.

    The parser would take the body for the other protocol's. Declining is the server's right (RFC 9110, 7.8).
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return OFFER.sub(b"x-offered", head + end) + rest
