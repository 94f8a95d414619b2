"""The gateway: the data plane's front. It needs neither database nor server to answer.

python -m modelyard.deliver.serving.gateway --environment production --folder DIR --port 8602 --admin-socket PATH
"""

import asyncio
import logging
import re
import time
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.serving import door, gateway_pages, ground_truth_door, paths, waiting
from modelyard.deliver.serving.capture import Captures
from modelyard.deliver.serving.dispatch import Dispatcher, Withdrawn, choose, still_serves
from modelyard.deliver.serving.door import CallerLeft, Headers, Receive, Scope, Send
from modelyard.deliver.serving.errors import Refused, error_body
from modelyard.deliver.serving.frames import AnswerMeta, Frame, RequestMeta
from modelyard.deliver.serving.mirror import Shadows
from modelyard.deliver.serving.paths import Asked
from modelyard.deliver.serving.prediction_log import Record
from modelyard.deliver.serving.routing import Endpoint, Routing, RoutingFile, Split, Target
from modelyard.deliver.serving.scaling import Fleet
from modelyard.deliver.serving.stats import Counters
from modelyard.deliver.serving.waiting import WaitingRequests
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id

POLL_S = 0.05
TRACEPARENT = re.compile(rb"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")
CALLER_ID = re.compile(rb"^[\x21-\x7e]{1,128}$")
CLIENT_SIDE = frozenset({"content-type", "content-length"})
RawHeaders = list[tuple[bytes, bytes]]
Reply = tuple[int, RawHeaders, bytes]
encode_meta = msgspec.json.Encoder().encode
logger = logging.getLogger("modelyard.gateway")


class Gateway:
    """An ASGI application whose table is the routing file."""

    def __init__(self, environment: str, folder: Path, hosts: tuple[str, ...] = ()) -> None:
        self.environment, self._hosts = environment, hosts
        self.started_at = now_ms()
        self.file = RoutingFile(folder / "routing.json")
        self.captures = Captures()
        self.counters: dict[tuple[str, str, int], Counters] = {}
        self.dispatcher = Dispatcher()
        self.fleet = Fleet(folder, self.dispatcher.pool, self.dispatcher.awaited, self._answered)
        self._shadows = Shadows(self.dispatcher.pool)
        self._splits: dict[str, Split] = {}
        self._busy: dict[str, int] = {}
        self._waiting = WaitingRequests(folder, self._predict_later)

    async def watch(self) -> None:
        """Follow the routing file."""
        while True:
            self.fleet.look()
            self.follow()
            await asyncio.sleep(POLL_S)

    def follow(self) -> None:
        """Take the routing file's content into force if it changed, or which of its workers run."""
        fresh, written = self.file.refresh(), self.file.written
        if written is None or not (fresh or self.fleet.changed):
            return
        if fresh:
            self.fleet.adopt(written)
        self.fleet.changed = False
        self.file.current = self.fleet.shown(written)
        self._adopt(self.file.current)

    def _answered(self, name: str, target: Target) -> int:
        found = self.counters.get((name, target.deployment, target.version))
        return found.requests if found is not None else 0

    def _adopt(self, routing: Routing) -> None:
        self._splits = {name: Split(endpoint.routes) for name, endpoint in routing.endpoints.items()}
        sockets: set[str] = set()
        for name, endpoint in routing.endpoints.items():
            for target in (*endpoint.routes, *endpoint.shadow):
                sockets.update(target.sockets)
                self.counters.setdefault((name, target.deployment, target.version), Counters())
        self.captures.adopt(routing)
        self._waiting.adopt(routing)
        self.dispatcher.pool.keep(sockets)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        headers: Headers = dict(scope["headers"])
        path: str = scope["path"]
        try:
            status, more, body = await self._respond(scope["method"], path, headers, receive)
        except Refused as refused:
            status, body = refused.status, self._refusal(path, refused)
            more = [(name.replace("_", "-").encode(), value.encode()) for name, value in refused.headers.items()]
            more.append((b"content-type", b"application/json"))
        except CallerLeft:
            return
        more.append((b"content-length", b"%d" % len(body)))
        trace = headers.get(b"traceparent")
        if trace is not None and TRACEPARENT.match(trace):
            more.append((b"traceparent", trace))
        await send({"type": "http.response.start", "status": status, "headers": more})
        await send({"type": "http.response.body", "body": body})

    def _refusal(self, path: str, refused: Refused) -> bytes:
        inner = path.split("/", 3)[3] if path.startswith("/endpoints/") and path.count("/") > 2 else path[1:]
        return error_body(inner, refused.status, str(refused))

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self.follow()
        watching = asyncio.ensure_future(self.watch())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        watching.cancel()
        await self._waiting.close()
        self.captures.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _respond(self, method: str, path: str, headers: Headers, receive: Receive) -> Reply:
        routing = self.file.current
        door.check_host(headers, (*routing.hosts, *self._hosts) if routing is not None else self._hosts)
        if path in ("/health", "/ready"):
            return gateway_pages.alive(self, path)
        if routing is None:
            raise Refused(503, "No routing is known yet.", retry_after="1")
        labels = ground_truth_door.PATH.fullmatch(path) is not None
        principal = door.authenticate(headers, routing, labels=labels, page=path.endswith(("/docs", "/openapi.json")))
        if len(path) > paths.MOST_PATH:
            raise Refused(414, f"The path is longer than {paths.MOST_PATH} bytes.")
        own = await gateway_pages.own(self, path, routing)
        if own is not None:
            return own
        name, endpoint, inner = self._locate(path, routing)
        if inner.startswith(waiting.PREFIX):
            return await self._waiting.told(method, name, principal, inner)
        if labels:
            return await ground_truth_door.take(method, endpoint, headers, receive)
        asked = paths.resolve(inner)
        if asked.kind == "unknown":
            raise Refused(404, f"There is nothing at {path!r}.")
        wanted = paths.method_of(inner)
        if method != wanted and not (method == "HEAD" and wanted == "GET"):
            raise Refused(405, f"{path} is asked by {wanted}.", allow=wanted)
        if not asked.predicts:
            return await self._described(name, endpoint, asked, inner, headers)
        body = await door.read_body(receive, headers, endpoint.limits.max_body_bytes)
        if b"prefer" in headers and waiting.wanted(headers):
            return await self._waiting.accept(name, principal, inner, headers, body)
        return await self._predict(name, endpoint, asked, inner, headers, body)

    def _locate(self, path: str, routing: Routing) -> tuple[str, Endpoint, str]:
        """(name, endpoint, the rest of the path); Open Inference clients may also name endpoints as models."""
        parts = path.split("/", 3)
        name, inner = (parts[2], parts[3] if len(parts) > 3 else "") if len(parts) > 2 else ("", "")
        if parts[1] in ("v1", "v2") and inner:
            name, separator, rest = inner.partition("/")
            if parts[1] == "v1" and name.endswith(":predict"):
                name, separator, rest = name.removesuffix(":predict"), ":predict", ""
            endpoint = routing.endpoints.get(name)
            inner = f"{parts[1]}/{parts[2]}/{endpoint.model if endpoint else name}{separator}{rest}"
        else:
            endpoint = routing.endpoints.get(name) if parts[1] == "endpoints" else None
        if endpoint is None:
            known = ", ".join(routing.endpoints) or "none"
            raise Refused(404, f"There is no endpoint at {path!r} in {self.environment}. Endpoints: {known}.")
        return name, endpoint, inner

    def _enter(self, name: str, endpoint: Endpoint) -> None:
        busy = self._busy.get(name, 0)
        if busy >= endpoint.limits.max_concurrency:
            raise Refused(429, "The endpoint is at its limit of concurrent requests.", retry_after="1")
        self._busy[name] = busy + 1

    async def _described(self, name: str, endpoint: Endpoint, asked: Asked, inner: str, headers: Headers) -> Reply:
        """What the worker tells of its model; not counted, not logged."""
        target, _ = choose(name, endpoint, self._splits[name], asked, headers)
        self._enter(name, endpoint)
        counters = self.counters[name, target.deployment, target.version]
        try:
            answer = await self.dispatcher.ask(
                target, encode_meta(RequestMeta(inner)), b"", endpoint.limits, counters, lambda: True
            )
        except TimeoutError:
            raise Refused(504, f"No answer within {endpoint.limits.timeout_s:g} s.") from None
        finally:
            self._busy[name] -= 1
        meta = answer.answer()
        more = gateway_pages.served_by(target)
        more.append((b"content-type", meta.type.encode()))
        if inner == "docs":
            more.append((b"content-security-policy", gateway_pages.PAGE_POLICY))
        return meta.status, more, answer.body

    async def _predict(
        self, name: str, endpoint: Endpoint, asked: Asked, inner: str, headers: Headers, body: bytes
    ) -> Reply:
        split = self._splits.get(name)
        if split is None:  # the endpoint was removed while the body arrived
            raise Refused(404, f"The endpoint {name} is no longer there.")
        target, named = choose(name, endpoint, split, asked, headers)
        limits = endpoint.limits
        self._enter(name, endpoint)
        content_type = headers.get(b"content-type", b"application/json").decode("latin-1")
        meta = encode_meta(RequestMeta(inner, content_type[:200], door.json_length(headers), limits.timeout_s * 1000))
        counters = self.counters[name, target.deployment, target.version]
        arrived, started = now_ms(), time.perf_counter()
        status, answered = 504, False
        try:
            still = partial(self._still, name, target, asked, headers)  # asked where a worker is lost
            try:
                answer = await self.dispatcher.ask(target, meta, body, limits, counters, still)
            except Withdrawn as withdrawn:  # it was given to a deployment that was taken back meanwhile
                target, named = self._choose_again(name, asked, headers)
                counters = self.counters[name, target.deployment, target.version]
                answer = await self.dispatcher.ask(target, meta, body, limits, counters, lambda: True, withdrawn.sent)
            described = answer.answer()
            status, answered = described.status, True
        except TimeoutError:
            raise Refused(
                504, f"No answer within {limits.timeout_s:g} s.", **gateway_pages.asked_of(target)
            ) from None
        except Refused as refused:
            status = refused.status
            refused.headers |= gateway_pages.asked_of(target)
            raise
        finally:
            self._busy[name] -= 1
            taken = time.perf_counter() - started
            counters.note(status, taken * 1000, named)
            if not answered and status >= 500:  # what was not answered is in the log too, for its error rate
                self.captures.take(name, Record(
                    new_id(), _caller_id(headers).decode(), arrived, target.deployment, target.version, status,
                    int(taken * 1e6), inner, content_type, b"", b"", named=named,
                ))  # fmt: skip
        identity, caller = new_id(), _caller_id(headers)
        record = Record(
            identity, caller.decode(), arrived, target.deployment, target.version, status, int(taken * 1e6),
            inner, content_type, body, answer.body, described.json_length, door.json_length(headers), named,
        )  # fmt: skip
        self.captures.take(name, record)
        if endpoint.shadow:
            self._mirror(name, endpoint, meta, body, answer, record)
        await self._until_durable(name)
        return status, _answer_headers(target, described, identity, caller, taken), answer.body

    async def _predict_later(self, name: str, inner: str, headers: Headers, body: bytes, timeout_s: float) -> Reply:
        """The answer to a request that waited; it has a time limit of its own. Raises Refused."""
        endpoint = self.file.current.endpoints.get(name) if self.file.current is not None else None
        if endpoint is None:
            raise Refused(503, f"The endpoint {name} is not there.")
        patient = msgspec.structs.replace(endpoint.limits, timeout_s=timeout_s)
        endpoint = msgspec.structs.replace(endpoint, limits=patient)
        return await self._predict(name, endpoint, paths.resolve(inner), inner, headers, body)

    def _still(self, name: str, target: Target, asked: Asked, headers: Headers) -> bool:
        routing = self.file.current
        return routing is not None and still_serves(name, routing.endpoints.get(name), target, asked, headers)

    def _choose_again(self, name: str, asked: Asked, headers: Headers) -> tuple[Target, bool]:
        routing, split = self.file.current, self._splits.get(name)
        if routing is None or split is None:
            raise Refused(404, f"The endpoint {name} is no longer there.")
        return choose(name, routing.endpoints[name], split, asked, headers)

    async def _until_durable(self, name: str) -> None:
        durable = self.captures.durable(name)
        if durable is not None:
            try:
                await durable
            except OSError:
                raise Refused(503, "The prediction could not be recorded, so it is not given.") from None

    def _mirror(self, name: str, endpoint: Endpoint, meta: bytes, body: bytes, answer: Frame, record: Record) -> None:
        def answered(target: Target, described: AnswerMeta, mirrored: bytes, taken: float) -> None:
            self.captures.take_shadow(
                name,
                msgspec.structs.replace(
                    record,
                    deployment=target.deployment,
                    version=target.version,
                    status=described.status,
                    latency_us=int(taken * 1e6),
                    answer=mirrored,
                ),
            )

        for shadow in endpoint.shadow:
            counters = self.counters[name, shadow.deployment, shadow.version]
            self._shadows.ask(shadow, meta, body, answer, counters, endpoint.limits.max_shadows, answered)

    def stats(self) -> dict[str, Any]:
        """What the controller reads: counters by endpoint and deployment since this gateway started."""
        endpoints: dict[str, Any] = {}
        for (name, deployment, version), held in self.counters.items():
            entry = endpoints.setdefault(name, {"deployments": {}, "dropped_log_rows": 0})
            entry["deployments"][deployment] = {"version": version, **held.shown()}
        for name, dropped in self.captures.dropped().items():
            endpoints.setdefault(name, {"deployments": {}})["dropped_log_rows"] = dropped
        current = self.file.current
        return {
            "started_at": self.started_at,
            "revision": current.revision if current is not None else None,
            "endpoints": endpoints,
            "workers": self.fleet.told(),
            "error": self.file.error or self.captures.error or self.fleet.error,
        }


def _caller_id(headers: Headers) -> bytes:
    caller = headers.get(b"x-request-id") or headers.get(b"x-amzn-sagemaker-inference-id") or b""
    return caller if caller and CALLER_ID.match(caller) else b""


def _answer_headers(target: Target, meta: AnswerMeta, identity: str, caller: bytes, taken: float) -> RawHeaders:
    timing = (
        f"parse;dur={meta.parse_us / 1000:.2f}, queue;dur={meta.queue_us / 1000:.2f}, "
        f"predict;dur={meta.predict_us / 1000:.2f}, total;dur={taken * 1000:.2f}"
    )
    more = [
        *gateway_pages.served_by(target),
        (b"content-type", meta.type.encode()),
        (b"server-timing", timing.encode()),
        (b"x-prediction-id", identity.encode()),
    ]
    if caller:
        more.append((b"x-request-id", caller))
    if meta.json_length is not None:
        more.append((b"inference-header-content-length", b"%d" % meta.json_length))
    return more


if __name__ == "__main__":
    import sys

    from modelyard.deliver.serving.front import main

    sys.exit(main())
