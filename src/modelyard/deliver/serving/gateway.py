"""The gateway: the data plane's front. It needs neither database nor server to answer.

python -m modelyard.deliver.serving.gateway --environment production --folder DIR --port 8602 --admin-socket PATH
"""

import argparse
import asyncio
import contextlib
import hashlib
import random
import re
import sys
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.serving import frames
from modelyard.deliver.serving.prediction_log import PredictionLog, Record
from modelyard.deliver.serving.routing import Endpoint, Routing, RoutingFile, Split, Target
from modelyard.deliver.serving.stats import Counters, prometheus
from modelyard.deliver.serving.upstream import Pool, WorkerLost
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id
from modelyard.kit.processes import die_with_parent

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
POLL_S = 0.05
RESPAWN_WAIT_S = 0.05
LOOPBACK = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})
TRACEPARENT = re.compile(rb"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")
CALLER_ID = re.compile(rb"^[\x21-\x7e]{1,128}$")


class Refused(Exception):
    """A request that is answered without asking a worker."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers


class Gateway:
    """An ASGI application whose table is the routing file."""

    def __init__(self, environment: str, folder: Path) -> None:
        self.environment = environment
        self.started_at = now_ms()
        self._file = RoutingFile(folder / "routing.json")
        self._pool = Pool()
        self._splits: dict[str, Split] = {}
        self._logs: dict[str, PredictionLog] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._busy: dict[str, int] = {}
        self._counters: dict[tuple[str, str, int], Counters] = {}
        self._shadows: set[asyncio.Task[None]] = set()

    async def watch(self) -> None:
        """Follow the routing file."""
        while True:
            if self._file.refresh() and self._file.current is not None:
                self._adopt(self._file.current)
            await asyncio.sleep(POLL_S)

    def _adopt(self, routing: Routing) -> None:
        self._splits = {name: Split(endpoint.routes) for name, endpoint in routing.endpoints.items()}
        sockets: set[str] = set()
        for name, endpoint in routing.endpoints.items():
            for target in (*endpoint.routes, *endpoint.shadow):
                sockets.update(target.sockets)
                self._counters.setdefault((name, target.deployment, target.version), Counters())
            if endpoint.log is not None and name not in self._logs:
                self._logs[name] = PredictionLog(Path(endpoint.log.folder))
                self._keepers[name] = asyncio.ensure_future(self._logs[name].keep())
        self._pool.keep(sockets)

    def close(self) -> None:
        """Seal the logs."""
        for keeper in self._keepers.values():
            keeper.cancel()
        for log in self._logs.values():
            log.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        path: str = scope["path"]
        try:
            status, media, body, more = await self._respond(scope["method"], path, headers, receive)
        except Refused as refused:
            status, media, more = refused.status, b"application/json", refused.headers
            body = _error(path, refused.status, str(refused))
        found = [(b"content-type", media), (b"content-length", str(len(body)).encode())]
        found += [(name.replace("_", "-").encode(), value.encode()) for name, value in more.items()]
        trace = headers.get(b"traceparent", b"")
        if TRACEPARENT.match(trace):
            found.append((b"traceparent", trace))
        await send({"type": "http.response.start", "status": status, "headers": found})
        await send({"type": "http.response.body", "body": body})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._file.refresh()
        if self._file.current is not None:
            self._adopt(self._file.current)
        watching = asyncio.ensure_future(self.watch())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        watching.cancel()
        self.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _respond(
        self, method: str, path: str, headers: dict[bytes, bytes], receive: Receive
    ) -> tuple[int, bytes, bytes, dict[str, str]]:
        routing = self._file.current
        self._check_host(headers, routing)
        if path == "/health":
            return 200, b"text/plain", b"OK", {}
        if path == "/ready":
            status = 503 if routing is None else 200
            return status, b"application/json", msgspec.json.encode({"ready": routing is not None}), {}
        if routing is None:
            raise Refused(503, "No routing is known yet.", retry_after="1")
        self._authenticate(headers, routing)
        if path == "/metrics":
            dropped = {name: log.dropped for name, log in self._logs.items()}
            return 200, b"text/plain; version=0.0.4", prometheus(self._counters, dropped).encode(), {}
        prefix, _, rest = path.removeprefix("/").partition("/")
        name, _, inner = rest.partition("/")
        endpoint = routing.endpoints.get(name) if prefix == "endpoints" else None
        if endpoint is None:
            known = ", ".join(routing.endpoints) or "none"
            raise Refused(404, f"There is no endpoint at {path!r} in {self.environment}. Endpoints: {known}.")
        if inner in ("invocations",) or inner.endswith("/infer"):
            if method != "POST":
                raise Refused(405, "Predictions are asked by POST.", allow="POST")
            body = await _read(receive, headers, endpoint.limits.max_body_bytes)
        else:
            body = b""
        return await self._invoke(name, endpoint, inner, headers, body)

    def _check_host(self, headers: dict[bytes, bytes], routing: Routing | None) -> None:
        host = headers.get(b"host", b"").lower()
        bare = host[: host.rindex(b"]") + 1] if host.startswith(b"[") and b"]" in host else host.partition(b":")[0]
        named = routing.hosts if routing is not None else ()
        if bare not in LOOPBACK and bare.decode("latin-1") not in named:
            raise Refused(403, "The Host header names a host that this gateway does not answer for.")
        site = headers.get(b"sec-fetch-site")
        if site not in (None, b"none", b"same-origin") or b"origin" in headers:
            raise Refused(403, "Requests from web pages are not answered here.")

    def _authenticate(self, headers: dict[bytes, bytes], routing: Routing) -> None:
        scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
        secret = value.strip() if scheme.lower() == b"bearer" else b""
        if scheme.lower() == b"basic":
            with contextlib.suppress(ValueError):
                secret = b64decode(value, validate=True).partition(b":")[2]
        if not secret:
            raise Refused(401, "Send 'Authorization: Bearer TOKEN'.", www_authenticate='Bearer realm="modelyard"')
        if hashlib.sha256(secret).hexdigest() not in routing.tokens:
            raise Refused(403, f"This token may not invoke endpoints in {self.environment}.")

    async def _invoke(
        self, name: str, endpoint: Endpoint, inner: str, headers: dict[bytes, bytes], body: bytes
    ) -> tuple[int, bytes, bytes, dict[str, str]]:
        target = self._target(name, endpoint, headers)
        if self._busy.get(name, 0) >= endpoint.limits.max_concurrency:
            raise Refused(429, "The endpoint is at its limit of concurrent requests.", retry_after="1")
        content_type = headers.get(b"content-type", b"application/json").decode("latin-1")
        meta = msgspec.json.encode({"path": inner, "type": content_type})
        started = time.perf_counter()
        arrived = now_ms()
        self._busy[name] = self._busy.get(name, 0) + 1
        counters = self._counters.setdefault((name, target.deployment, target.version), Counters())
        try:
            async with asyncio.timeout(endpoint.limits.timeout_s):
                answer = await self._ask(target, meta, body, counters)
        except TimeoutError:
            counters.note(504, endpoint.limits.timeout_s * 1000)
            raise Refused(504, f"No answer within {endpoint.limits.timeout_s:g} s.") from None
        finally:
            self._busy[name] -= 1
        taken = time.perf_counter() - started
        described = answer.meta_json()
        status: int = described["status"]
        more = {
            "x-modelyard-deployment": target.deployment,
            "x-modelyard-version": str(target.version),
        }
        if described["timing"]:
            more["server-timing"] = f"{described['timing']}, total;dur={taken * 1000:.2f}"
        if body or inner == "invocations":
            counters.note(status, taken * 1000)
            identity = new_id()
            more["x-prediction-id"] = identity
            caller = headers.get(b"x-request-id") or headers.get(b"x-amzn-sagemaker-inference-id") or b""
            caller = caller if CALLER_ID.match(caller) else b""
            if caller:
                more["x-request-id"] = caller.decode()
            self._log(
                name,
                endpoint,
                Record(
                    identity,
                    caller.decode(),
                    arrived,
                    target.deployment,
                    target.version,
                    status,
                    int(taken * 1e6),
                    inner,
                    content_type,
                    body,
                    answer.body,
                ),
            )
            for shadow in endpoint.shadow:
                task = asyncio.ensure_future(self._mirror(name, shadow, meta, body))
                self._shadows.add(task)
                task.add_done_callback(self._shadows.discard)
        return status, described["type"].encode(), answer.body, more

    def _target(self, name: str, endpoint: Endpoint, headers: dict[bytes, bytes]) -> Target:
        wanted = headers.get(b"x-modelyard-deployment")
        if wanted is not None:
            for target in (*endpoint.routes, *endpoint.shadow):
                if target.deployment.encode() == wanted:
                    return target
            raise Refused(404, f"{name} has no such deployment.")
        target = self._splits[name].next()
        if target is None or not target.sockets:
            raise Refused(503, f"{name} has no deployment that serves.", retry_after="1")
        return target

    async def _ask(self, target: Target, meta: bytes, body: bytes, counters: Counters) -> frames.Frame:
        """The answer of one of the target's workers; a lost one is retried, waiting for its successor if need be."""
        attempt = 0
        while True:
            try:
                return await self._pool.of(target.sockets, attempt).ask(frames.REQUEST, meta, body)
            except WorkerLost:
                attempt += 1
                counters.retries += 1
                if attempt >= len(target.sockets):
                    await asyncio.sleep(RESPAWN_WAIT_S)

    async def _mirror(self, name: str, target: Target, meta: bytes, body: bytes) -> None:
        """Ask a shadow deployment; its answer goes nowhere, its failures are counted."""
        counters = self._counters.setdefault((name, target.deployment, target.version), Counters())
        counters.shadow_requests += 1
        try:
            async with asyncio.timeout(10):
                answer = await self._pool.of(target.sockets).ask(frames.REQUEST, meta, body)
            counters.shadow_errors += answer.meta_json()["status"] >= 500
        except (WorkerLost, TimeoutError):
            counters.shadow_errors += 1

    def _log(self, name: str, endpoint: Endpoint, record: Record) -> None:
        log = self._logs.get(name)
        if log is not None and endpoint.log is not None:
            if endpoint.log.sample >= 1 or random.random() < endpoint.log.sample:
                log.add(record)

    def stats(self) -> dict[str, Any]:
        """What the controller reads: counters by endpoint and deployment since this gateway started."""
        endpoints: dict[str, Any] = {}
        for (name, deployment, version), held in self._counters.items():
            entry = endpoints.setdefault(name, {"deployments": {}, "dropped_log_rows": 0})
            entry["deployments"][deployment] = {"version": version, **held.shown()}
        for name, log in self._logs.items():
            endpoints.setdefault(name, {"deployments": {}})["dropped_log_rows"] = log.dropped
        current = self._file.current
        revision = current.revision if current is not None else None
        return {
            "started_at": self.started_at,
            "revision": revision,
            "endpoints": endpoints,
            "error": self._file.error,
        }


async def _read(receive: Receive, headers: dict[bytes, bytes], most: int) -> bytes:
    declared = headers.get(b"content-length", b"0")
    if not declared.isdigit() or int(declared) > most:
        raise Refused(413, f"The body is larger than {most} bytes.")
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise Refused(413, f"The body is larger than {most} bytes.")
    return b"".join(parts)


def _error(path: str, status: int, message: str) -> bytes:
    if "/v2" in path:
        return msgspec.json.encode({"error": message})
    codes = {
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "RESOURCE_DOES_NOT_EXIST",
        413: "BAD_REQUEST",
        429: "REQUEST_LIMIT_EXCEEDED",
        503: "TEMPORARILY_UNAVAILABLE",
        504: "TIMEOUT",
    }
    return msgspec.json.encode({"error_code": codes.get(status, "BAD_REQUEST"), "message": message})


async def serve_admin(gateway: Gateway, socket: Path) -> asyncio.Server:
    """Answer PING frames on a Unix socket with the gateway's statistics."""

    def on_frames(connection: frames.FrameConnection, received: list[frames.Frame]) -> None:
        for frame in received:
            connection.send(frames.encode(frame.id, frames.PONG, b"", msgspec.json.encode(gateway.stats())))

    socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    socket.unlink(missing_ok=True)
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: frames.FrameConnection(on_frames, lambda: None), str(socket))
    socket.chmod(0o600)
    return server


def main() -> int:
    import uvicorn

    parser = argparse.ArgumentParser(description="the data plane's front")
    parser.add_argument("--environment", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--admin-socket", type=Path, required=True)
    arguments = parser.parse_args()
    die_with_parent()
    gateway = Gateway(arguments.environment, arguments.folder)
    config = uvicorn.Config(
        gateway,
        host=arguments.host,
        port=arguments.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        timeout_graceful_shutdown=10,
        proxy_headers=False,
        ws="none",
    )

    async def run() -> None:
        admin = await serve_admin(gateway, arguments.admin_socket)
        await uvicorn.Server(config).serve()
        admin.close()

    import uvloop

    uvloop.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
