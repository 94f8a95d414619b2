"""How a call reaches the server: over HTTP, or in process without a socket. Both speak the same bytes."""

import asyncio
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol
from urllib.parse import urlencode

import urllib3

from modelyard.client.trust import VARIABLE, Mark, context, mark
from modelyard.domain.errors import Unavailable

Body = bytes | Iterable[bytes] | None
UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
TRUST = (
    f"Name the authority that signed its certificate in {VARIABLE}; where it asks who calls, your certificate in "
    "MODELYARD_CLIENT_CERTIFICATE (and MODELYARD_CLIENT_KEY)."
)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Transport(Protocol):
    """The seam between the client's calls and the server."""

    url: str

    def send(self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: Body) -> Answer: ...

    def close(self) -> None: ...


class HttpTransport:
    """Keep-alive connections; a request is sent again only if the server was never reached."""

    def __init__(self, url: str, timeout_s: float = 60.0, certificate: tuple[str, str] | None = None) -> None:
        """`certificate`: PEM files of one and its key, shown to a server that asks who calls."""
        self.url = url.rstrip("/")
        self._certificate, self._timeout_s = certificate, timeout_s
        self._pool, self._trusted = self._connected()

    def _connected(self) -> tuple[urllib3.PoolManager, Mark]:
        """Connections that trust what is trusted now, and the mark of that."""
        trusted = mark()
        retries = urllib3.Retry(connect=3, read=0, redirect=0, status=0, other=0, backoff_factor=0.2)
        timeout = urllib3.Timeout(connect=5.0, read=self._timeout_s)
        own = self._certificate
        shown: dict[str, Any] = {"cert_file": own[0], "key_file": own[1]} if own else {}
        if self.url.startswith("https:"):
            shown["ssl_context"] = context()
        return urllib3.PoolManager(num_pools=4, maxsize=8, retries=retries, timeout=timeout, **shown), trusted

    def send(self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: Body) -> Answer:
        """The answer, read whole. Raises Unavailable when there is no server or it does not answer in time."""
        target = f"{self.url}{path}" + (f"?{urlencode(query)}" if query else "")
        trusted = self._trusted  # before the pool: another thread may replace both
        try:
            answer = self._pool.request(method, target, headers=headers, body=body)  # pyright: ignore[reportArgumentType]
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None)
            if isinstance(reason, urllib3.exceptions.SSLError):
                if UNTRUSTED in str(reason) and mark() != trusted:  # renewed; nothing of the request was sent
                    self._pool, self._trusted = self._connected()
                    return self.send(method, path, query, headers, body)
                raise Unavailable(
                    f"{self.url} and this machine do not trust each other: {reason}.", remedy=TRUST
                ) from error
            raise Unavailable(
                f"No answer from {self.url} ({type(error).__name__}).", remedy="Is it running? Start it: modelyard up"
            ) from error
        return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.data)

    def close(self) -> None:
        self._pool.clear()


class InProcessTransport:
    """Calls an ASGI application on an event loop of its own thread."""

    url = "http://localhost"

    def __init__(self, app: Any) -> None:
        self._app = app
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="modelyard-embedded", daemon=True)
        self._thread.start()

    def send(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        headers: dict[str, str],
        body: Body,
        into: BinaryIO | None = None,
    ) -> Answer:
        """The application's answer, read whole; what a good one holds goes `into` a file where one is given.

        A body in pieces is taken as the application asks for it; name its length in `headers`.
        """
        whole = body is None or isinstance(body, bytes)
        if body is None or isinstance(body, bytes):
            body = [body or b""]
            headers = {**headers, "content-length": str(len(body[0]))}
        named = [(name.lower().encode(), value.encode()) for name, value in {"host": "localhost", **headers}.items()]
        call = self._call(method, path, urlencode(query, doseq=True).encode(), named, iter(body), whole, into)
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _call(
        self,
        method: str,
        path: str,
        query: bytes,
        headers: list[tuple[bytes, bytes]],
        pieces: Iterator[bytes],
        whole: bool,
        into: BinaryIO | None,
    ) -> Answer:
        started: dict[str, Any] = {}
        content, taken = bytearray(), False

        async def receive() -> dict[str, Any]:
            nonlocal taken
            if taken:
                return {"type": "http.disconnect"}
            piece = next(pieces, None)
            taken = whole or piece is None
            return {"type": "http.request", "body": piece or b"", "more_body": not taken}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                started.update(message)
            elif into is not None and started["status"] == 200:
                into.write(message.get("body", b""))
            else:
                content.extend(message.get("body", b""))

        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 0),
            "server": ("localhost", 80),
        }
        await self._app(scope, receive, send)
        told = {name.decode(): value.decode() for name, value in started["headers"]}
        return Answer(started["status"], told, bytes(content))
