"""The wire between gateway and worker: length-framed messages, multiplexed over one Unix stream socket.

A frame is a header (bytes of the rest, request id, kind, bytes of meta), a meta part as JSON, and an undecoded body.
Answers come in any order. What one loop turn writes leaves in few system calls, and yet not in one: the other end
works on the first frames while this end still makes the next, else gateway and workers would take turns.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

import msgspec

HEADER = struct.Struct("<IQBH")
PEER = struct.Struct("3i")
"""pid, uid and gid, as Linux gives them."""
REQUEST, ANSWER, PING, PONG = 1, 2, 3, 4
MOST_FRAME = 256 << 20
TOGETHER = 8
"""Frames of a loop turn that leave together."""


class RequestMeta(msgspec.Struct, array_like=True, gc=False):
    """What a request frame says beside its body.

    path: relative to the endpoint; json_length: bytes of JSON before raw tensors; patience_ms: how long the asker
    still waits (0: no limit); accept: media types of an answer that is not to be JSON.
    """

    path: str
    type: str = "application/json"
    json_length: int | None = None
    patience_ms: float = 0.0
    accept: str = ""


class AnswerMeta(msgspec.Struct, array_like=True, gc=False):
    """What an answer frame says beside its body; times in microseconds.

    declined: whether the version does not take the input (`Declined`).
    """

    status: int
    type: str = "application/json"
    json_length: int | None = None
    parse_us: int = 0
    queue_us: int = 0
    predict_us: int = 0
    declined: bool = False


ANSWERS = msgspec.json.Decoder(AnswerMeta)
REQUESTS = msgspec.json.Decoder(RequestMeta)


class Frame(msgspec.Struct, frozen=True, gc=False):
    id: int
    kind: int
    meta: bytes
    body: bytes

    def request(self) -> RequestMeta:
        return REQUESTS.decode(self.meta)

    def answer(self) -> AnswerMeta:
        return ANSWERS.decode(self.meta)


def encode(id: int, kind: int, meta: bytes, body: bytes) -> bytes:
    """A frame's bytes."""
    return HEADER.pack(len(meta) + len(body), id, kind, len(meta)) + meta + body


class FrameConnection(asyncio.Protocol):
    """One end of the wire. `on_frames` gets all frames that one read brought; `on_lost` the end of the connection."""

    def __init__(
        self, on_frames: "Callable[[FrameConnection, list[Frame]], None]", on_lost: Callable[[], None]
    ) -> None:
        self._on_frames, self._on_lost = on_frames, on_lost
        self._buffer = bytearray()
        self._outgoing: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's derive from no class of asyncio's
        self._transport.set_write_buffer_limits(high=64 << 20)

    def peer_pid(self) -> int:
        """The process that listens at the other end; 0 where the system does not tell."""
        peer = self._transport.get_extra_info("socket") if self._transport is not None else None
        if peer is None or not hasattr(socket, "SO_PEERCRED"):
            return 0
        return int(PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))[0])

    def data_received(self, data: bytes) -> None:
        buffer: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            buffer = self._buffer
        frames: list[Frame] = []
        start, held = 0, len(buffer)
        while held - start >= HEADER.size:
            length, id, kind, meta_length = HEADER.unpack_from(buffer, start)
            if length > MOST_FRAME or meta_length > length:
                self.close()
                return
            first = start + HEADER.size
            end = first + length
            if held < end:
                break
            middle = first + meta_length
            frames.append(Frame(id, kind, bytes(buffer[first:middle]), bytes(buffer[middle:end])))
            start = end
        if buffer is data:
            self._buffer += data[start:]
        elif start:
            del self._buffer[:start]
        if frames:
            self._on_frames(self, frames)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_lost()

    def send(self, frame: bytes) -> None:
        """Queue a frame; it is written at the end of this loop turn, or once TOGETHER of them wait."""
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(frame)
        if len(self._outgoing) >= TOGETHER:
            self._flush()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        if self._transport is not None and self._outgoing:
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()
