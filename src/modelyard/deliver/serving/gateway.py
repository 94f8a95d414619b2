"""The gateway: the data plane's front. It needs neither database nor server to answer.

python -m modelyard.deliver.serving.gateway --environment production --folder DIR --port 8602 --admin-socket PATH
"""

import asyncio
import re
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.serving import door, gateway_pages, ground_truth_door, paths, waiting, waiting_replies
from modelyard.deliver.serving.certificates import Certificates
from modelyard.deliver.serving.dispatch import Demand, Dispatcher, Withdrawn, choose_to_count, choose_to_describe
from modelyard.deliver.serving.door import CallerLeft, Headers, Receive, Scope, Send
from modelyard.deliver.serving.errors import Refused, error_body
from modelyard.deliver.serving.exchange import (
    Exchange,
    Exchanges,
    Place,
    RawHeaders,
    asked_of,
    caller_trace,
    served_by,
)
from modelyard.deliver.serving.frames import Frame, RequestMeta
from modelyard.deliver.serving.routing import Routing, RoutingFile, Target
from modelyard.deliver.serving.scaling import Fleet
from modelyard.deliver.serving.starts import Starts
from modelyard.deliver.serving.waiting import WaitingRequests
from modelyard.deliver.serving.waiting_located import MOST_INLINE
from modelyard.kit.clock import now_ms

POLL_S = 0.05
MOST_PLACES = 4096
PLAIN = re.compile(rb"[A-Za-z0-9/._:-]+$")
"""Paths that mean what they say: no query, nothing encoded."""
UNCOMMON = (b"prefer", b"content-encoding")
"""Headers of requests that only the application answers."""
NAMED = re.compile(r"/(endpoints|v[12]/models)/(?P<name>[^/:]+)")
"""Paths that name an endpoint, as such or as a model."""
Reply = tuple[int, RawHeaders, bytes]


class Gateway:
    """An ASGI application whose table is the routing file."""

    def __init__(
        self,
        environment: str,
        folder: Path,
        hosts: tuple[str, ...] = (),
        certificates: Certificates | None = None,
    ) -> None:
        self.environment, self._hosts, self.certificates = environment, hosts, certificates
        self.started_at = now_ms()
        self.file = RoutingFile(folder / "routing.json")
        self.dispatcher = Dispatcher()
        self.exchanges = Exchanges(self.dispatcher.pool)
        self.fleet = Fleet(folder, self.dispatcher.pool, self.dispatcher.awaited, self._answered)
        self.starts = Starts(folder, self.dispatcher.pool)
        self._places: dict[bytes, Place] = {}
        self._waiting = WaitingRequests(folder, self._predict_later)

    @property
    def patience_s(self) -> float:
        """The longest that any request under way may take."""
        endpoints = self.file.current.endpoints.values() if self.file.current is not None else ()
        return max((endpoint.limits.timeout_s for endpoint in endpoints), default=0.0)

    async def waiting_lengths(self) -> dict[str, int]:
        """How many asynchronous requests wait, by endpoint. Raises Refused (503)."""
        return await self._waiting.lengths()

    async def watch(self) -> None:
        """Follow the routing file."""
        while True:
            self.fleet.look()
            if self.file.current is not None and self.starts.look(self.file.current):
                self.dispatcher.give_up(self.starts.failing)
            self.follow()
            await asyncio.sleep(POLL_S)

    def follow(self) -> None:
        """Take the routing file's content into force if it changed, or which of its workers run."""
        fresh, written = self.file.refresh(), self.file.written
        if written is None or not (fresh or self.fleet.changed or self.starts.changed):
            return
        if fresh:
            self.fleet.adopt(written)
        self.fleet.changed = self.starts.changed = False
        self.file.current = self.starts.shown(self.fleet.shown(written))
        self._adopt(self.file.current)

    def _answered(self, name: str, target: Target) -> int:
        found = self.exchanges.counters.get((name, target.deployment, target.version))
        return found.requests if found is not None else 0

    def _adopt(self, routing: Routing) -> None:
        self.exchanges.adopt(routing)
        self._places.clear()
        self._waiting.adopt(routing)
        targets = [t for endpoint in routing.endpoints.values() for t in (*endpoint.routes, *endpoint.shadow)]
        self.dispatcher.pool.keep({socket for target in targets for socket in target.sockets})

    def place(self, url: bytes) -> Place | None:
        """What predictions are asked at a plain path; None for what only the application understands."""
        found = self._places.get(url)
        if found is not None:
            return found
        routing = self.file.current
        if routing is None or len(url) > paths.MOST_PATH or not PLAIN.match(url):
            return None
        try:
            found = self._locate(url.decode(), routing)
        except Refused:
            return None
        if not found.asked.predicts:
            return None
        if len(self._places) < MOST_PLACES:
            self._places[url] = found
        return found

    def open(self, place: Place, headers: Headers, body: bytes) -> Exchange | None:
        """A request given to a deployment; None when only the application has the words for what is wrong with it."""
        routing = self.file.current
        if routing is None or not headers.keys().isdisjoint(UNCOMMON) or self.exchanges.captures.waits(place.name):
            return None
        try:
            door.check_host(headers, (*routing.hosts, *self._hosts))
            door.authenticate(headers, routing)
            return self.exchanges.begin(place, headers, body)
        except Refused:
            return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        headers: Headers = dict(scope["headers"])
        path: str = scope["path"]
        try:
            status, more, body = await self.respond(scope["method"], path, headers, receive)
        except Refused as refused:
            self.note(path, refused)
            status, more, body = refusal(path, refused)
        except CallerLeft:
            return
        more += closing_headers(headers, body)
        await send({"type": "http.response.start", "status": status, "headers": more})
        await send({"type": "http.response.body", "body": body})

    def note(self, path: str, refused: Refused) -> None:
        """Count what no deployment's counters have: requests that were given to none."""
        if "x_modelyard_deployment" in refused.headers:
            return
        routing, found = self.file.current, NAMED.match(path)
        name = found["name"] if found is not None else ""
        known = routing is not None and name in routing.endpoints
        self.exchanges.refused[name if known else "", refused.status] += 1

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self.follow()
        spans = self.exchanges.spans
        keeping = [asyncio.ensure_future(self.watch())]
        keeping += [asyncio.ensure_future(kept.keep()) for kept in (spans, self.certificates) if kept is not None]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in keeping:
            task.cancel()
        await self._waiting.close()
        self.exchanges.captures.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def respond(self, method: str, path: str, headers: Headers, receive: Receive) -> Reply:
        """The reply to an HTTP request. Raises Refused, CallerLeft."""
        routing = self.file.current
        if path in gateway_pages.PROBES:
            return gateway_pages.alive(self, method, path)
        page = path.endswith(("/docs", "/openapi.json"))
        hosts = (*routing.hosts, *self._hosts) if routing is not None else self._hosts
        door.check_host(headers, hosts, page=page and method == "GET")
        if routing is None:
            raise Refused(503, "No routing is known yet.", retry_after="1")
        labels = ground_truth_door.PATH.fullmatch(path) is not None
        principal = door.authenticate(headers, routing, labels=labels, page=page)
        if len(path) > paths.MOST_PATH:
            raise Refused(414, f"The path is longer than {paths.MOST_PATH} bytes.")
        own = await gateway_pages.own(self, method, path, routing)
        if own is not None:
            return own
        place = self._locate(path, routing)
        if place.inner.startswith(waiting_replies.PREFIX):
            return await self._waiting.told(method, place.name, principal, place.inner)
        if labels:
            return await ground_truth_door.take(method, place.endpoint, headers, receive)
        if place.asked.kind == "unknown":
            raise Refused(404, f"There is nothing at {path!r}.")
        door.check_method(method, paths.method_of(place.inner), path)
        if place.asked.kind == "later":
            body = await door.read_body(receive, headers, MOST_INLINE)
            return await self._waiting.accept_located(place.name, principal, headers, body)
        if not place.asked.predicts:
            return await self._described(place, headers)
        body = await door.read_body(receive, headers, place.endpoint.limits.max_body_bytes)
        if b"prefer" in headers and waiting.wanted(headers):
            return await self._waiting.accept(place.name, principal, place.inner, headers, body)
        return await self._predict(place, headers, body)

    def _locate(self, path: str, routing: Routing) -> Place:
        """What a path names; Open Inference clients may also name endpoints as models. Raises Refused."""
        if not path.startswith("/"):  # such as `OPTIONS *`
            raise Refused(404, f"There is nothing at {path!r}.")
        parts = path.split("/", 3)
        name, inner = (parts[2], parts[3] if len(parts) > 3 else "") if len(parts) > 2 else ("", "")
        if parts[1] in ("v1", "v2") and name == "models" and inner:
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
        return Place(name, endpoint, paths.resolve(inner), inner)

    async def _described(self, place: Place, headers: Headers) -> Reply:
        """What the worker tells of its model; not counted, not logged, and free of the limit of predictions."""
        exchanges, limits = self.exchanges, place.endpoint.limits
        if place.asked.counts:
            return await gateway_pages.counted(self, place, choose_to_count(*place[:3], headers))
        target = choose_to_describe(place.name, place.endpoint, place.asked, headers)
        found = await gateway_pages.probed(self, place, target)
        if found is not None:
            return found[0], [*served_by(target), *found[1]], found[2]
        counters = exchanges.counters[place.name, target.deployment, target.version]
        deadline = asyncio.get_running_loop().time() + limits.timeout_s
        meta = msgspec.json.encode(RequestMeta(place.inner))
        try:
            answer = await self.dispatcher.ask(Demand(target, meta, b"", limits, counters, deadline))
        except TimeoutError:
            raise Refused(504, f"No answer within {limits.timeout_s:g} s.") from None
        described = answer.answer()
        more = served_by(target)
        more.append((b"content-type", described.type.encode()))
        if place.inner == "docs":
            more.append((b"content-security-policy", gateway_pages.PAGE_POLICY))
        return described.status, more, answer.body

    async def _predict(self, place: Place, headers: Headers, body: bytes) -> Reply:
        exchange = self.exchanges.begin(place, headers, body)
        return await self.finish(exchange, self.dispatcher.ask(exchange))

    async def finish(self, exchange: Exchange, asking: Awaitable[Frame]) -> Reply:
        """The reply to a request that is under way. Raises Refused."""
        status, answered = 504, False
        try:
            answer = await self._unless_withdrawn(exchange, asking)
            answered = True
        except TimeoutError:
            raise Refused(
                504, f"No answer within {exchange.limits.timeout_s:g} s.", **asked_of(exchange.target)
            ) from None
        except Refused as refused:
            status = refused.status
            refused.headers |= asked_of(exchange.target)
            raise
        finally:
            if not answered:
                self.exchanges.failed(exchange, status)
        status, more = self.exchanges.answered(exchange, answer)
        await self._until_durable(exchange.place.name)
        return status, more, answer.body

    async def _unless_withdrawn(self, exchange: Exchange, asking: Awaitable[Frame]) -> Frame:
        try:
            return await asking
        except Withdrawn as withdrawn:  # it was given to a deployment that was taken back meanwhile
            self.exchanges.move(exchange)
            return await self.dispatcher.ask(exchange, withdrawn.sent)

    async def _predict_later(self, name: str, inner: str, headers: Headers, body: bytes, timeout_s: float) -> Reply:
        """The answer to a request that waited; it has a time limit of its own. Raises Refused."""
        endpoint = self.file.current.endpoints.get(name) if self.file.current is not None else None
        if endpoint is None:
            raise Refused(503, f"The endpoint {name} is not there.")
        patient = msgspec.structs.replace(endpoint.limits, timeout_s=timeout_s)
        endpoint = msgspec.structs.replace(endpoint, limits=patient)
        return await self._predict(Place(name, endpoint, paths.resolve(inner), inner), headers, body)

    async def _until_durable(self, name: str) -> None:
        durable = self.exchanges.captures.durable(name)
        if durable is not None:
            try:
                await durable
            except OSError:
                raise Refused(503, "The prediction could not be recorded, so it is not given.") from None

    def stats(self) -> dict[str, Any]:
        """What the controller reads: counters by endpoint and deployment since this gateway started."""
        endpoints: dict[str, Any] = {}
        for (name, deployment, version), held in self.exchanges.counters.items():
            entry = endpoints.setdefault(name, {"deployments": {}, "dropped_log_rows": 0})
            entry["deployments"][deployment] = {"version": version, **held.shown()}
        for name, dropped in self.exchanges.captures.dropped().items():
            endpoints.setdefault(name, {"deployments": {}})["dropped_log_rows"] = dropped
        for name, error in self.exchanges.captures.errors().items():
            endpoints[name]["log_error"] = error
        for name, error in self._waiting.errors.items():
            endpoints.setdefault(name, {"deployments": {}})["queue_error"] = error
        current = self.file.current
        return {
            "started_at": self.started_at,
            "revision": current.revision if current is not None else None,
            "endpoints": endpoints,
            "workers": self.fleet.told(),
            "tls": self.certificates.told() if self.certificates is not None else None,
            "dropped_spans": self.exchanges.spans.dropped if self.exchanges.spans is not None else 0,
            "error": (self.file.error and f"its routing cannot be read: {self.file.error}")
            or self.exchanges.captures.error
            or self.fleet.error,
        }


def refusal(path: str, refused: Refused) -> Reply:
    """The answer to a request that was refused, in the shape of the protocol that its path belongs to."""
    inner = path.split("/", 3)[3] if path.startswith("/endpoints/") and path.count("/") > 2 else path[1:]
    more = [(name.replace("_", "-").encode(), value.encode()) for name, value in refused.headers.items()]
    more.append((b"content-type", b"application/json"))
    return refused.status, more, error_body(inner, refused.status, str(refused))


def closing_headers(headers: Headers, body: bytes) -> RawHeaders:
    """The headers of every answer: its length, and the caller's trace."""
    trace = caller_trace(headers)
    length = (b"content-length", b"%d" % len(body))
    return [length] if trace is None else [length, (b"traceparent", trace)]


if __name__ == "__main__":
    import sys

    from modelyard.deliver.serving.front import main

    sys.exit(main())
