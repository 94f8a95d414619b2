"""One model folder served by one process without hub, gateway or token: the SageMaker container contract and more.

`/ping` and `/invocations` as SageMaker and MLflow have them, `/v2/...`, `/v1/...`, `/predict`, `/docs`.
"""

import asyncio
import socket
from pathlib import Path
from typing import Any

from modelyard.deliver.serving import describe, describe_page, door, paths
from modelyard.deliver.serving.door import CallerLeft, Headers, Receive, Scope, Send
from modelyard.deliver.serving.errors import Refused, error_body
from modelyard.deliver.serving.frames import AnswerMeta, RequestMeta
from modelyard.deliver.serving.loading import load
from modelyard.deliver.serving.predictor import Predictor
from modelyard.deliver.serving.routing import Limits
from modelyard.deliver.serving.worker import limit_memory

DRAIN_S = 25
"""SageMaker kills 30 s after SIGTERM."""


class Standalone:
    """An ASGI application around one predictor."""

    def __init__(self, predictor: Predictor, limits: Limits, hosts: tuple[str, ...] | None) -> None:
        self._predictor, self._limits, self._hosts = predictor, limits, hosts
        self._busy = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = dict(scope["headers"])
        inner: str = scope["path"].removeprefix("/")
        more: list[tuple[bytes, bytes]] = []
        try:
            meta, body = await self._respond(scope["method"], inner, headers, receive)
            if inner == "docs":
                more.append((b"content-security-policy", describe_page.policy().encode()))
        except Refused as refused:
            meta, body = AnswerMeta(refused.status), error_body(inner, refused.status, str(refused))
            more += [(name.replace("_", "-").encode(), value.encode()) for name, value in refused.headers.items()]
        except CallerLeft:
            return
        if meta.json_length is not None:
            more.append((b"inference-header-content-length", b"%d" % meta.json_length))
        more += [(b"content-type", meta.type.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": meta.status, "headers": more})
        await send({"type": "http.response.body", "body": body})

    async def _respond(self, method: str, inner: str, headers: Headers, receive: Receive) -> tuple[AnswerMeta, bytes]:
        if self._hosts is not None:
            door.check_host(headers, self._hosts)
        asked = paths.resolve(inner)
        if asked.kind == "unknown":
            raise Refused(404, f"There is nothing at {inner[:200]!r}.")
        wanted = paths.method_of(inner)
        if method != wanted and not (method == "HEAD" and wanted == "GET"):
            raise Refused(405, f"{inner} is asked by {wanted}.", allow=wanted)
        if not asked.predicts:
            status, answer = describe.answer(self._predictor, inner)
            return AnswerMeta(status, answer.type), answer.body
        body = await door.read_body(receive, headers, self._limits.max_body_bytes)
        if self._busy >= self._limits.max_concurrency:
            raise Refused(429, "The server is at its limit of concurrent requests.", retry_after="1")
        content_type = headers.get(b"content-type", b"application/json").decode("latin-1")[:200]
        meta = RequestMeta(inner, content_type, door.json_length(headers), self._limits.timeout_s * 1000)
        future: asyncio.Future[tuple[AnswerMeta, bytes]] = asyncio.get_running_loop().create_future()

        def reply(described: AnswerMeta, answer: bytes) -> None:
            if not future.done():
                future.set_result((described, answer))

        self._busy += 1
        try:
            self._predictor.take(asked, meta, body, reply)
            async with asyncio.timeout(self._limits.timeout_s):
                return await future
        except TimeoutError:
            raise Refused(504, f"No answer within {self._limits.timeout_s:g} s.") from None
        finally:
            self._busy -= 1


def serve(
    folder: Path, name: str, version: str, listener: socket.socket, limits: Limits,
    hosts: tuple[str, ...] | None = None, memory_mb: int | None = None,
) -> None:  # fmt: skip
    """Load the model and answer until SIGTERM. Raises Invalid, MissingExtra.

    hosts: further names that requests may address; None when any may, as behind a platform's own front.
    """
    limit_memory(memory_mb)
    app = Standalone(Predictor(load(folder), name, version), limits, hosts)
    import uvicorn  # late: a worker's environment has no web framework

    config: dict[str, Any] = {"log_level": "warning", "access_log": False, "lifespan": "off", "ws": "none"}
    config |= {"server_header": False, "proxy_headers": False, "timeout_graceful_shutdown": DRAIN_S}
    uvicorn.Server(uvicorn.Config(app, **config)).run(sockets=[listener])
