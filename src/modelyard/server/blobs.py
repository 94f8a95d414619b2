"""Stored content as an answer, whole or a range; and a request's body on its way into the store."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from anyio import open_file
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from modelyard.kit.hashing import CHUNK
from modelyard.server.connection import EXTENSION, Connection, Pieces
from modelyard.server.routes import Call

LARGE = 1 << 20
"""Bytes from which borrowing the connection's socket pays: it takes turns of threads."""
PLAIN = re.compile(r"[A-Za-z0-9._+-]+")
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


async def answer(
    call: Call,
    digest: str,
    size: int,
    *,
    media: str = "application/octet-stream",
    name: str = "",
    show: bool = False,
) -> Response:
    """The blob's bytes, or the range that the request asks for, in constant memory.

    `show` lets a browser show them, else it saves them as `name`. Raises NotFound when the store lacks the blob.
    """
    headers = {"accept-ranges": "bytes", "etag": f'"{digest}"'}
    if name or not show:
        headers["content-disposition"] = _disposition(name, "inline" if show else "attachment")
    if not show:
        headers["content-type"] = media  # as it is: for what is saved no charset is guessed
    start, end = _asked(call.request, headers["etag"], size)
    if start >= end and size:
        return Response(status_code=416, headers={"content-range": f"bytes */{size}"})
    headers["content-length"] = str(end - start)
    status = 200
    if end - start < size:
        status, headers["content-range"] = 206, f"bytes {start}-{end - 1}/{size}"
    if call.request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media)
    objects = call.yard.objects
    path = objects.local(digest)
    if path is not None:
        return FileAnswer(path, start, end - start, status_code=status, headers=headers, media_type=media)
    pieces = objects.stream(digest, start, end)
    first = await anext(pieces, b"")  # what is missing or refused is answered as an error
    return StreamingResponse(chained(first, pieces), status_code=status, headers=headers, media_type=media)


class FileAnswer(Response):
    """A part of a file; sent by the kernel where the connection lends its socket."""

    def __init__(self, file: Path, start: int, count: int, **described: Any) -> None:
        super().__init__(**described)
        self._file, self._start, self._count = file, start, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with await open_file(self._file, "rb") as stream:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            left = self._count
            lender = _lender(scope, left)
            if lender is not None:
                await lender.send_file(stream.wrapped.fileno(), self._start, left)
                left = 0
            await stream.seek(self._start)
            while left:
                piece = await stream.read(min(CHUNK, left))
                left -= len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def incoming(request: Request) -> AsyncGenerator[Pieces]:
    """The pieces of a request's body; each is valid until the next. Raises ClientDisconnect."""
    declared = request.headers.get("content-length", "")
    length = int(declared) if declared.isdigit() else 0
    lender = _lender(request.scope, length)
    if lender is None:
        yield request.stream()
        return
    async with lender.body(length) as pieces:
        yield pieces


def _lender(scope: Scope, count: int) -> Connection | None:
    lender = scope.get("extensions", {}).get(EXTENSION)
    return lender if lender is not None and count >= LARGE and lender.serves(scope) else None


def _disposition(name: str, kind: str) -> str:
    if not name:
        return kind
    if PLAIN.fullmatch(name):
        return f"{kind}; filename={name}"
    ascii_only = re.sub(r'["\\]', "", name.encode("ascii", "ignore").decode())
    quoted = f'{kind}; filename="{ascii_only}"'
    return quoted if ascii_only == name else f"{quoted}; filename*=UTF-8''{quote(name)}"


def _asked(request: Request, etag: str, size: int) -> tuple[int, int]:
    """Where the wanted bytes start and end; (0, 0) for a range that the content does not have.

    What is not one range of bytes is passed over, as RFC 9110 (14.2) allows.
    """
    found = RANGE.fullmatch(request.headers.get("range", "").strip())
    if found is None or request.headers.get("if-range", etag) != etag or found.group() == "bytes=-":
        return 0, size
    first, last = found.groups()
    if not first:
        return max(size - int(last), 0), size
    start, end = int(first), min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        return 0, size
    return (start, end) if start < size else (0, 0)


async def chained(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pieces of an answer whose first was waited for, since an error before it has words."""
    yield first
    async for piece in pieces:
        yield piece
