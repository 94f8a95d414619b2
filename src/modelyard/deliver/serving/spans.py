"""OpenTelemetry spans of predictions, sent as OTLP over HTTP in JSON; off unless the environment names a collector.

Read as every OpenTelemetry program does: OTEL_EXPORTER_OTLP_ENDPOINT (or ..._TRACES_ENDPOINT, the whole address),
OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER_ARG. A request waits for nothing: spans that the
collector does not take in time are dropped and counted. Of our own, without the OpenTelemetry packages: see ADR 44.
"""

import asyncio
import random
import secrets
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from modelyard.deliver.serving.frames import AnswerMeta
from modelyard.deliver.serving.routing import Target

if TYPE_CHECKING:
    import urllib3

MOST_WAITING = 4096
AT_ONCE = 512
FLUSH_S = 1.0
PATIENCE_S = 5.0
SERVER, INTERNAL, FAILED = 2, 1, 2


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was answered: when it came (ns since the epoch), how long it took, and what was answered."""

    endpoint: str
    path: str
    target: Target
    status: int
    arrived_ns: int
    took_s: float
    described: AnswerMeta | None
    trace: bytes | None


@dataclass
class Spans:
    """Spans on their way to a collector; `keep` sends them until it is cancelled."""

    url: str
    headers: dict[str, str] = field(default_factory=dict[str, str])
    service: str = "modelyard-gateway"
    share: float = 1.0
    dropped: int = 0
    _waiting: deque[Answered] = field(default_factory=deque[Answered])

    @staticmethod
    def of(environment: Mapping[str, str]) -> "Spans | None":
        """As the environment says; None where it names no collector."""
        base = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").rstrip("/")
        url = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or (f"{base}/v1/traces" if base else "")
        if not url:
            return None
        pairs = (item.partition("=") for item in environment.get("OTEL_EXPORTER_OTLP_HEADERS", "").split(","))
        headers = {name.strip(): unquote(value.strip()) for name, _, value in pairs if name.strip()}
        try:
            share = float(environment.get("OTEL_TRACES_SAMPLER_ARG", "1"))
        except ValueError:
            share = 1.0
        return Spans(url, headers, environment.get("OTEL_SERVICE_NAME", "modelyard-gateway"), share)

    def note(self, answered: Answered) -> None:
        """Take a request whose caller samples it, or which falls into our share."""
        if answered.trace is not None and not int(answered.trace[-2:], 16) & 1:
            return
        if answered.trace is None and self.share < 1 and random.random() >= self.share:
            return
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(answered)

    async def keep(self) -> None:
        """Send what waits, again and again."""
        import urllib3  # late: an eighth of the gateway's start, which callers of a killed one wait for

        pool = urllib3.PoolManager(num_pools=1, maxsize=1, retries=False, timeout=PATIENCE_S)
        while True:
            await asyncio.sleep(FLUSH_S)
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
                if not await asyncio.to_thread(self._send, pool, batch):
                    self.dropped += len(batch)
                    break

    def _send(self, pool: "urllib3.PoolManager", batch: list[Answered]) -> bool:
        from urllib3.exceptions import HTTPError  # late: see `keep`

        headers = {"content-type": "application/json", **self.headers}
        try:
            answer = pool.request("POST", self.url, body=msgspec.json.encode(self._message(batch)), headers=headers)
        except HTTPError:
            return False
        return answer.status < 300

    def _message(self, batch: list[Answered]) -> dict[str, Any]:
        spans = [span for answered in batch for span in _spans(answered)]
        resource = {"attributes": _attributes({"service.name": self.service})}
        return {
            "resourceSpans": [
                {"resource": resource, "scopeSpans": [{"scope": {"name": "modelyard"}, "spans": spans}]}
            ]
        }


def _spans(answered: Answered) -> list[dict[str, Any]]:
    """The request's span, and below it the wait in the worker's queue and the model's call."""
    parts = answered.trace.decode().split("-") if answered.trace is not None else []
    trace, parent = (parts[1], parts[2]) if parts else (secrets.token_hex(16), "")
    told = {
        "http.request.method": "POST",
        "http.response.status_code": answered.status,
        "url.path": f"/endpoints/{answered.endpoint}/{answered.path}",
        "modelyard.endpoint": answered.endpoint,
        "modelyard.deployment": answered.target.deployment,
        "modelyard.version": answered.target.version,
    }
    end = answered.arrived_ns + int(answered.took_s * 1e9)
    root = _span(trace, parent, f"predict {answered.endpoint}", SERVER, answered.arrived_ns, end)
    root["attributes"] = _attributes(told)
    if answered.status >= 500:
        root["status"] = {"code": FAILED}
    found, described = [root], answered.described
    if described is not None:
        worker_ns = (described.parse_us + described.queue_us + described.predict_us) * 1000
        at = max(answered.arrived_ns, end - worker_ns)
        for name, took_us in (
            ("parse", described.parse_us),
            ("queue", described.queue_us),
            ("model", described.predict_us),
        ):
            found.append(_span(trace, root["spanId"], name, INTERNAL, at, at + took_us * 1000))
            at += took_us * 1000
    return found


def _span(trace: str, parent: str, name: str, kind: int, start_ns: int, end_ns: int) -> dict[str, Any]:
    times = {"startTimeUnixNano": str(start_ns), "endTimeUnixNano": str(end_ns)}
    above = {"parentSpanId": parent} if parent else {}
    return {"traceId": trace, "spanId": secrets.token_hex(8), **above, "name": name, "kind": kind, **times}


def _attributes(values: Mapping[str, str | int]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for key, value in values.items()
    ]
