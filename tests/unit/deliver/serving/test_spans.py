"""Spans reach a collector, which is a real server on loopback that keeps what it gets."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from modelyard.deliver.serving import spans
from modelyard.deliver.serving.frames import AnswerMeta
from modelyard.deliver.serving.routing import Target
from modelyard.deliver.serving.spans import Answered, Spans
from tests.conftest import wait_until

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector(HTTPServer):
    got: list[tuple[str, dict[str, str], Any]]


class Keep(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.got.append((self.path, dict(self.headers.items()), body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector(("127.0.0.1", 0), Keep)
    server.got = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def answered(status: int = 200, trace: bytes | None = TRACE, described: AnswerMeta | None = None) -> Answered:
    return Answered("m", "invocations", Target("d1", 3, ()), status, 1_000_000_000, 0.010, described, trace)


def sent(told: Spans, until: Any) -> None:
    async def run() -> None:
        keeping = asyncio.ensure_future(told.keep())
        await asyncio.to_thread(wait_until, until, "the collector")
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping

    asyncio.run(run())


def test_a_request_its_queue_and_its_model_call_are_one_trace(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "FLUSH_S", 0.01)
    where = f"http://127.0.0.1:{collector.server_address[1]}"
    told = Spans.of({"OTEL_EXPORTER_OTLP_ENDPOINT": where, "OTEL_EXPORTER_OTLP_HEADERS": "x-key=a%20b"})
    assert told is not None
    told.note(answered(described=AnswerMeta(200, parse_us=1000, queue_us=2000, predict_us=4000)))
    told.note(answered(status=504, trace=None))
    told.note(answered(trace=TRACE[:-1] + b"0"))  # its caller does not sample it
    sent(told, lambda: collector.got)
    path, headers, body = collector.got[0]
    assert path == "/v1/traces" and headers["x-key"] == "a b"
    resource = body["resourceSpans"][0]
    assert resource["resource"]["attributes"][0]["value"] == {"stringValue": "modelyard-gateway"}
    root, *children, late = resource["scopeSpans"][0]["spans"]
    assert root["traceId"] == "0af7651916cd43dd8448eb211c80319c" and root["parentSpanId"] == "b7ad6b7169203331"
    assert [child["name"] for child in children] == ["parse", "queue", "model"]
    assert {child["parentSpanId"] for child in children} == {root["spanId"]}
    assert (children[2]["startTimeUnixNano"], children[2]["endTimeUnixNano"]) == ("1006000000", "1010000000")
    assert "parentSpanId" not in late and late["status"] == {"code": 2} and late["traceId"] != root["traceId"]


def test_a_collector_that_is_away_costs_spans_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "FLUSH_S", 0.01)
    monkeypatch.setattr(spans, "MOST_WAITING", 2)
    told = Spans.of({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"})
    assert told is not None
    for _ in range(3):
        told.note(answered())
    assert told.dropped == 1
    sent(told, lambda: told.dropped == 3)


def test_nothing_is_sent_unless_a_collector_is_named() -> None:
    assert Spans.of({}) is None
