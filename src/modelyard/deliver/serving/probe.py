"""Asking a worker whether it is ready, and a gateway what it counted."""

import asyncio
from typing import Any

import msgspec

from modelyard.deliver.serving import frames
from modelyard.deliver.serving.frames import RequestMeta
from modelyard.deliver.serving.upstream import Upstream, WorkerLost

PATIENCE_S = 2.0


async def ask(socket: str) -> dict[str, Any] | None:
    """The state of the worker or gateway behind a socket; None when nobody answers in time."""
    upstream = Upstream(socket)
    try:
        async with asyncio.timeout(PATIENCE_S):
            return msgspec.json.decode((await upstream.ask(frames.PING, b"", b"")).body)
    except (WorkerLost, TimeoutError):
        return None
    finally:
        upstream.close()


async def predict(socket: str, body: bytes, patience_s: float = PATIENCE_S * 5) -> tuple[int, bytes]:
    """(status, body) of one scoring request put to a worker directly. Raises WorkerLost, TimeoutError."""
    upstream = Upstream(socket)
    meta = msgspec.json.encode(RequestMeta("invocations"))
    try:
        async with asyncio.timeout(patience_s):
            frame = await upstream.ask(frames.REQUEST, meta, body)
        return frame.answer().status, frame.body
    finally:
        upstream.close()
