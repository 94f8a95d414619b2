"""One model folder served by one process without hub or gateway: the SageMaker container contract and more.

`/ping` and `/invocations` as SageMaker and MLflow have them, `/v2/...`, `/v1/...`, `/predict`, `/docs`, `/metrics`;
the same below `/endpoints/NAME/`, as at a gateway. `modelyard serve` runs it, and so does a container image.
"""

import asyncio
import re
import socket
import time
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.serving import describe, describe_page, door, paths
from modelyard.deliver.serving.door import CallerLeft, Headers, Receive, Scope, Send
from modelyard.deliver.serving.errors import Refused, error_body
from modelyard.deliver.serving.frames import AnswerMeta, RequestMeta
from modelyard.deliver.serving.loading import check_manifest, load
from modelyard.deliver.serving.predictor import Predictor
from modelyard.deliver.serving.routing import Limits, Routing
from modelyard.deliver.serving.stats import Counters, prometheus
from modelyard.deliver.serving.worker import limit_memory
from modelyard.domain.errors import ConfigError, Invalid

DRAIN_S = 25
"""SageMaker kills 30 s after SIGTERM."""
DIGEST = re.compile(r"[0-9a-f]{64}")
PROBES = ("health", "ready")
METRICS = "text/plain; version=0.0.4; charset=utf-8"


class Manifest(msgspec.Struct, frozen=True):
    """Which version is served, and the SHA-256 of each of its files; none where nobody approved them by digest."""

    model: str
    version: int | str
    digest: str = ""
    files: dict[str, str] = {}


def read_manifest(file: Path) -> Manifest:
    """The manifest in a file. Raises Invalid."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise Invalid(f"{file} is no manifest: {error}.", remedy="Take the one that build-image wrote.") from error


def access(digests: list[str], hosts: list[str]) -> Routing:
    """Who may ask (anybody without digests), under which names. Raises ConfigError for what is no token's digest."""
    for digest in digests:
        if not DIGEST.fullmatch(digest):
            raise ConfigError(
                "MODELYARD_TOKEN_DIGESTS holds what is no SHA-256 digest.",
                remedy="Make one: printf %s TOKEN | sha256sum",
            )
    return Routing("standalone", 0, dict.fromkeys(digests, "caller"), hosts=tuple(hosts))


class Standalone:
    """An ASGI application around one predictor."""

    def __init__(self, predictor: Predictor, of: Manifest, limits: Limits, access: Routing, any_host: bool) -> None:
        self._predictor, self._limits, self._access, self._any_host = predictor, limits, access, any_host
        self._prefix = f"endpoints/{of.model}/"
        self._served = (b"x-modelyard-version", str(of.version).encode())
        number = int(of.version) if str(of.version).isdigit() else 0
        self._named, self._counters = (of.model, of.digest[:32] or "standalone", number), Counters()
        self._busy = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = dict(scope["headers"])
        inner: str = scope["path"].removeprefix("/").removeprefix(self._prefix)
        more: list[tuple[bytes, bytes]] = [self._served]
        started = time.perf_counter()
        try:
            meta, body = await self._respond(scope["method"], inner, headers, receive)
            if inner == "docs":
                more.append((b"content-security-policy", describe_page.policy().encode()))
        except Refused as refused:
            meta, body = AnswerMeta(refused.status), error_body(inner, refused.status, str(refused))
            more += [(name.replace("_", "-").encode(), value.encode()) for name, value in refused.headers.items()]
        except CallerLeft:
            return
        if paths.resolve(inner).predicts:
            taken_ms = (time.perf_counter() - started) * 1000
            self._counters.note(meta.status, taken_ms, declined=meta.declined)
        if meta.json_length is not None:
            more.append((b"inference-header-content-length", b"%d" % meta.json_length))
        more += [(b"content-type", meta.type.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": meta.status, "headers": more})
        await send({"type": "http.response.body", "body": body})

    async def _respond(self, method: str, inner: str, headers: Headers, receive: Receive) -> tuple[AnswerMeta, bytes]:
        if inner in PROBES:
            return AnswerMeta(200, "text/plain"), b"OK"
        if not self._any_host:
            door.check_host(headers, self._access.hosts)
        if self._access.tokens:
            door.authenticate(headers, self._access, page=inner in ("docs", "openapi.json"))
        if inner == "metrics":
            return AnswerMeta(200, METRICS), prometheus({self._named: self._counters}, {}).encode()
        asked = paths.resolve(inner)
        if asked.kind == "unknown":
            raise Refused(404, f"There is nothing at {inner[:200]!r}.")
        door.check_method(method, paths.method_of(inner), inner)
        if not asked.predicts:
            status, answer = describe.answer(self._predictor, inner)
            return AnswerMeta(status, answer.type), answer.body
        body = await door.read_body(receive, headers, self._limits.max_body_bytes)
        if self._busy >= self._limits.max_concurrency:
            raise Refused(429, "The server is at its limit of concurrent requests.", retry_after="1")
        content_type = headers.get(b"content-type", b"application/json").decode("latin-1")[:200]
        patience_ms, accept = self._limits.timeout_s * 1000, door.accepted(headers.get(b"accept", b"*/*"))
        meta = RequestMeta(inner, content_type, door.json_length(headers), patience_ms, accept)
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
    folder: Path, of: Manifest, listener: socket.socket, limits: Limits,
    access: Routing, any_host: bool = False, memory_mb: int | None = None,
) -> None:  # fmt: skip
    """Load the model and answer until SIGTERM. Raises Invalid, MissingExtra; Conflict for a file not as approved.

    any_host: requests may address any name, as behind a platform's own front.
    """
    limit_memory(memory_mb)
    if of.files:
        check_manifest(folder, of.files)
    app = Standalone(Predictor(load(folder), of.model, str(of.version)), of, limits, access, any_host)
    import uvicorn  # late: a worker's environment has no web framework

    config: dict[str, Any] = {"log_level": "warning", "access_log": False, "lifespan": "off", "ws": "none"}
    config |= {"server_header": False, "proxy_headers": False, "timeout_graceful_shutdown": DRAIN_S}
    uvicorn.Server(uvicorn.Config(app, **config)).run(sockets=[listener])
