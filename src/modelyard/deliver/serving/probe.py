"""Asking a worker whether it is ready, and a gateway what it counted."""

import asyncio
import contextlib
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import Any

import msgspec

from modelyard.deliver.serving import frames
from modelyard.deliver.serving.frames import RequestMeta
from modelyard.deliver.serving.upstream import Upstream, WorkerLost

PATIENCE_S = 2.0


async def ask(place: str) -> dict[str, Any] | None:
    """The state of the worker or gateway behind a socket; None when nobody answers in time."""
    upstream = Upstream(place)
    try:
        async with asyncio.timeout(PATIENCE_S):
            return msgspec.json.decode((await upstream.ask(frames.PING, b"", b"")).body)
    except (WorkerLost, TimeoutError):
        return None
    finally:
        upstream.close()


def nudge(place: str) -> None:
    """Have a gateway take its newest routing into force now; one that does not answer in time finds it by itself."""
    with contextlib.suppress(OSError), socket(AF_UNIX, SOCK_STREAM) as gateway:
        gateway.settimeout(PATIENCE_S)
        gateway.connect(place)
        gateway.sendall(frames.encode(1, frames.PING, b"", b""))
        gateway.recv(1)


async def predict(place: str, body: bytes, patience_s: float = PATIENCE_S * 5) -> tuple[int, bytes]:
    """(status, body) of one scoring request put to a worker directly. Raises WorkerLost, TimeoutError."""
    upstream = Upstream(place)
    meta = msgspec.json.encode(RequestMeta("invocations"))
    try:
        async with asyncio.timeout(patience_s):
            frame = await upstream.ask(frames.REQUEST, meta, body)
        return frame.answer().status, frame.body
    finally:
        upstream.close()
