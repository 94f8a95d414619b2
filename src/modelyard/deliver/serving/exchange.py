"""One prediction request from the choice of its deployment to its answer: what is sent, counted, logged, mirrored."""

import os
import re
import time
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import msgspec

from modelyard.deliver.serving import door
from modelyard.deliver.serving.capture import Captures
from modelyard.deliver.serving.dispatch import Demand, choose, still_serves
from modelyard.deliver.serving.door import Headers
from modelyard.deliver.serving.errors import Refused
from modelyard.deliver.serving.frames import AnswerMeta, Frame, RequestMeta
from modelyard.deliver.serving.mirror import Shadows
from modelyard.deliver.serving.paths import Asked
from modelyard.deliver.serving.prediction_log import Record
from modelyard.deliver.serving.routing import Endpoint, Routing, Split, Target
from modelyard.deliver.serving.spans import Answered, Spans
from modelyard.deliver.serving.stats import Counters, by_endpoint, family
from modelyard.deliver.serving.upstream import Pool
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id

TRACEPARENT = re.compile(rb"^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$")
CALLER_ID = re.compile(rb"^[\x21-\x7e]{1,128}$")
RawHeaders = list[tuple[bytes, bytes]]
NOT_DESCRIBED = AnswerMeta(0)
encode_meta = msgspec.json.Encoder().encode


class Place(NamedTuple):
    """What a path names: an endpoint, and what is asked below it."""

    name: str
    endpoint: Endpoint
    asked: Asked
    inner: str


@dataclass(slots=True)
class Exchange(Demand):
    """A request that was given to a deployment; `named`: whether it said itself to which.

    moved: its first deployment was taken back, and it was given to this one.
    """

    exchanges: "Exchanges"
    place: Place
    headers: Headers
    named: bool
    content_type: str
    json_length: int | None
    arrived: int
    started: float
    moved: bool = False

    def still(self) -> bool:
        return self.moved or self.exchanges.still(self)


class Exchanges:
    """What all requests share: shares of the traffic, limits, counters, logs, shadows."""

    def __init__(self, pool: Pool) -> None:
        self.counters: dict[tuple[str, str, int], Counters] = {}
        self.captures = Captures()
        self._shadows = Shadows(pool)
        self._routing: Routing | None = None
        self._splits: dict[str, Split] = {}
        self._busy: dict[str, int] = {}
        self.refused: Counter[tuple[str, int]] = Counter()
        """Requests that no deployment was asked, by endpoint and status; without an endpoint under an empty name."""
        self.spans = Spans.of(os.environ)

    def adopt(self, routing: Routing) -> None:
        """Follow another routing."""
        self._routing = routing
        self._splits = {name: Split(endpoint.routes) for name, endpoint in routing.endpoints.items()}
        for name, endpoint in routing.endpoints.items():
            for target in (*endpoint.routes, *endpoint.shadow):
                self.counters.setdefault((name, target.deployment, target.version), Counters())
        self.captures.adopt(routing)

    def choose(self, place: Place, headers: Headers) -> tuple[Target, bool]:
        """(the deployment that answers, whether the request names it). Raises Refused."""
        split = self._splits.get(place.name)
        if split is None:  # the endpoint was removed while the body arrived
            raise Refused(404, f"The endpoint {place.name} is no longer there.")
        return choose(place.name, place.endpoint, split, place.asked, headers)

    def enter(self, place: Place) -> None:
        """Take one of the endpoint's places; `leave` gives it back. Raises Refused (429)."""
        busy = self._busy.get(place.name, 0)
        if busy >= place.endpoint.limits.max_concurrency:
            raise Refused(429, "The endpoint is at its limit of concurrent requests.", retry_after="1")
        self._busy[place.name] = busy + 1

    def leave(self, place: Place) -> None:
        self._busy[place.name] -= 1

    def metrics(self) -> str:
        """Requests under way and refused, in Prometheus' text format."""
        endpoints = self._routing.endpoints if self._routing else {}
        busy = {name: self._busy.get(name, 0) for name in endpoints}
        most = {name: endpoint.limits.max_concurrency for name, endpoint in endpoints.items()}
        refused = {f'endpoint="{name}",status="{status}"': count for (name, status), count in self.refused.items()}
        return (
            by_endpoint("modelyard_under_way", "gauge", "Prediction requests that are being answered.", busy)
            + by_endpoint("modelyard_concurrency_limit", "gauge", "How many may be; more are answered 429.", most)
            + family("modelyard_refused_total", "counter", "Requests that no deployment was asked.", refused)
        )

    def begin(self, place: Place, headers: Headers, body: bytes) -> Exchange:
        """Give a request to a deployment; `answered` or `failed` ends it. Raises Refused."""
        content_type = headers.get(b"content-type", b"application/json").decode("latin-1")
        json_length = door.json_length(headers)
        limits = place.endpoint.limits
        self.enter(place)
        try:
            target, named = self.choose(place, headers)
        except Refused:
            self.leave(place)
            raise
        counters = self.counters[place.name, target.deployment, target.version]
        deadline = time.monotonic() + limits.timeout_s  # the loop's clock, without looking for the loop
        accept = door.accepted(headers[b"accept"]) if b"accept" in headers else ""
        meta = _request_meta(place.inner, content_type[:200], json_length, limits.timeout_s * 1000, accept)
        return Exchange(
            target, meta, body, limits, counters, deadline, self, place, headers, named,
            content_type, json_length, now_ms(), time.perf_counter(),
        )  # fmt: skip

    def still(self, exchange: Exchange) -> bool:
        """Whether a request's deployment may go on to answer it."""
        if self._routing is None:
            return False
        place = exchange.place
        endpoint = self._routing.endpoints.get(place.name)
        return still_serves(place.name, endpoint, exchange.target, place.asked, exchange.headers)

    def move(self, exchange: Exchange) -> None:
        """Give a request to another deployment, since its own was taken back. Raises Refused."""
        place = exchange.place
        if self._routing is None or place.name not in self._routing.endpoints:
            raise Refused(404, f"The endpoint {place.name} is no longer there.")
        exchange.place = place._replace(endpoint=self._routing.endpoints[place.name])
        exchange.target, exchange.named = self.choose(exchange.place, exchange.headers)
        exchange.counters = self.counters[place.name, exchange.target.deployment, exchange.target.version]
        exchange.moved = True

    def answered(self, exchange: Exchange, answer: Frame) -> tuple[int, RawHeaders]:
        """(status, headers) of what a worker answered, counted and logged."""
        described = answer.answer()
        taken = self._end(exchange, described.status, described)
        identity, caller = new_id(), _caller_id(exchange.headers)
        record = _record(exchange, identity, caller, described.status, taken, answer.body, described)
        self.captures.take(exchange.place.name, record)
        if exchange.place.endpoint.shadow:
            self._mirror(exchange, answer, record)
        return described.status, _answer_headers(exchange.target, described, identity, caller, taken)

    def failed(self, exchange: Exchange, status: int) -> None:
        """Count a request that no worker answered; the log has it too, for its error rate."""
        taken = self._end(exchange, status, None)
        if status >= 500:
            record = _record(exchange, new_id(), _caller_id(exchange.headers), status, taken)
            record.request, record.request_json_length = b"", None
            self.captures.take(exchange.place.name, record)

    def _end(self, exchange: Exchange, status: int, described: AnswerMeta | None) -> float:
        taken = time.perf_counter() - exchange.started
        self.leave(exchange.place)
        declined = described is not None and described.declined
        exchange.counters.note(status, taken * 1000, exchange.named, declined)
        if self.spans is not None:
            place, since = exchange.place, exchange.arrived * 1_000_000
            trace = caller_trace(exchange.headers)
            self.spans.note(
                Answered(place.name, place.inner, exchange.target, status, since, taken, described, trace)
            )
        return taken

    def _mirror(self, exchange: Exchange, answer: Frame, record: Record) -> None:
        name, endpoint = exchange.place.name, exchange.place.endpoint

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
            most = endpoint.limits.max_shadows
            self._shadows.ask(shadow, exchange.meta, exchange.body, answer, counters, most, answered)


def _record(
    exchange: Exchange, identity: str, caller: bytes, status: int, taken: float,
    answer: bytes = b"", described: AnswerMeta = NOT_DESCRIBED,
) -> Record:  # fmt: skip
    target = exchange.target
    return Record(
        identity, caller.decode(), exchange.arrived, target.deployment, target.version, status, int(taken * 1e6),
        exchange.place.inner, exchange.content_type, exchange.body, answer, described.json_length,
        exchange.json_length, exchange.named, described.type,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _request_meta(inner: str, content_type: str, json_length: int | None, patience_ms: float, accept: str) -> bytes:
    return encode_meta(RequestMeta(inner, content_type, json_length, patience_ms, accept))


def _caller_id(headers: Headers) -> bytes:
    caller = headers.get(b"x-request-id") or headers.get(b"x-amzn-sagemaker-inference-id") or b""
    return caller if caller and CALLER_ID.match(caller) else b""


def caller_trace(headers: Headers) -> bytes | None:
    """The W3C trace context that came along, if it is one."""
    trace = headers.get(b"traceparent")
    return trace if trace is not None and TRACEPARENT.match(trace) else None


def served_by(target: Target) -> RawHeaders:
    """The headers that say which deployment answered."""
    return [*_served_by(target.deployment, target.version)]


def asked_of(target: Target) -> dict[str, str]:
    """The same for what ended without an answer, as `Refused` takes them."""
    return {"x_modelyard_deployment": target.deployment, "x_modelyard_version": str(target.version)}


@lru_cache(maxsize=1024)
def _served_by(deployment: str, version: int) -> RawHeaders:
    return [
        (b"x-modelyard-deployment", deployment.encode()),
        (b"x-modelyard-version", b"%d" % version),
        (b"x-amzn-invoked-production-variant", deployment.encode()),
    ]


def _answer_headers(target: Target, meta: AnswerMeta, identity: str, caller: bytes, taken: float) -> RawHeaders:
    timing = (
        f"parse;dur={meta.parse_us / 1000:.2f}, queue;dur={meta.queue_us / 1000:.2f}, "
        f"predict;dur={meta.predict_us / 1000:.2f}, total;dur={taken * 1000:.2f}"
    )
    more = [
        *_served_by(target.deployment, target.version),
        (b"content-type", meta.type.encode()),
        (b"server-timing", timing.encode()),
        (b"x-prediction-id", identity.encode()),
    ]
    if caller:
        more.append((b"x-request-id", caller))
    if meta.json_length is not None:
        more.append((b"inference-header-content-length", b"%d" % meta.json_length))
    return more
