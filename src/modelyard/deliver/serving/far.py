"""Workers on other machines: a file beside the place of a worker's socket says where it listens, and its secret.

A worker that listens on the network speaks only to who begins with its secret. What follows is not encrypted.
"""

import asyncio
import hmac
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from modelyard.deliver.serving.frames import Frame, FrameConnection
from modelyard.kit.files import atomic_write

CONNECT_S = 1.0
SILENT_MS = 5000
"""How long sent bytes may go unacknowledged: a machine that lost its power says nothing."""
SECRET_BYTES = 32


class Address(msgspec.Struct, frozen=True):
    """`secret` in hexadecimal."""

    host: str
    port: int
    secret: str


def _file(place: str) -> Path:
    return Path(f"{place}.at")


def publish(place: str, address: Address) -> None:
    """Say where the worker of a socket's place is."""
    atomic_write(_file(place), msgspec.json.encode(address), mode=0o600, durable=False)


def withdraw(place: str, address: Address) -> None:
    """Say it no more, unless another worker is there by now."""
    if _published(place) == address:
        _file(place).unlink(missing_ok=True)


def _published(place: str) -> Address | None:
    try:
        return msgspec.json.decode(_file(place).read_bytes(), type=Address)
    except FileNotFoundError:
        return None


async def connect(place: str, make: Callable[[], FrameConnection]) -> FrameConnection:
    """A connection to a worker: at its socket, else where the file beside it says. Raises OSError."""
    loop = asyncio.get_running_loop()
    try:
        return (await loop.create_unix_connection(make, place))[1]
    except (FileNotFoundError, ConnectionRefusedError):
        address = _published(place)
        if address is None:
            raise
    async with asyncio.timeout(CONNECT_S):
        transport, made = await loop.create_connection(make, address.host, address.port)
    told: socket.socket = transport.get_extra_info("socket")
    told.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        told.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_MS)
    transport.write(bytes.fromhex(address.secret))
    return made


class GuardedConnection(FrameConnection):
    """A worker's end on the network: closed unless it begins with the secret."""

    def __init__(
        self,
        secret: bytes,
        on_frames: Callable[[FrameConnection, list[Frame]], None],
        on_lost: Callable[[], None],
    ) -> None:
        super().__init__(on_frames, on_lost)
        self._secret, self._greeting = secret, bytearray()

    def data_received(self, data: bytes) -> None:
        if not self._secret:
            super().data_received(data)
            return
        self._greeting += data
        if len(self._greeting) < len(self._secret):
            return
        given, rest = self._greeting[: len(self._secret)], bytes(self._greeting[len(self._secret) :])
        if not hmac.compare_digest(given, self._secret):
            self.close()
            return
        self._secret, self._greeting = b"", bytearray()
        if rest:
            super().data_received(rest)
