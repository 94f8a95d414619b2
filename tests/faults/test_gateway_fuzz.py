"""A live gateway under whatever a socket can bring: it answers in a known shape or hangs up, and lives."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.deliver.serving.conftest import TOKEN, Plane, odd_model, opened_plane

PATIENCE_S = 20.0
TARGETS = [
    *("/endpoints/m/invocations", "/endpoints/m/predict", "/endpoints/m/v2/models/m/infer", "/v2/models/m/infer"),
    *("/v1/models/m:predict", "/endpoints/m/ground-truth", "/endpoints/m/requests/" + "0" * 32, "/metrics", "/v2"),
    *(
        "/endpoints/m/docs",
        "/endpoints/m/openapi.json",
        "/v2/health/ready",
        "/api/2.0/endpoints/",
        "/health",
        "*",
        "",
    ),
    *("/endpoints/m/../../etc/passwd", "/%00", "/%ff%fe", "//", "http://elsewhere/", "/endpoints//invocations"),
]
METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PRI", "get", ""]
TYPES = [
    *("application/json", "text/csv", "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"),
    *("application/octet-stream", "text/plain", "application/json; charset=latin-1", "", "\u0000", "x" * 3000),
]
BODIES = [
    *(
        b'{"inputs": {"x": [1.5]}}',
        b'{"inputs": {"x": ["a"]}}',
        b'{"dataframe_split": {"columns": ["x"]}}',
        b"x\n1\n",
    ),
    *(b'{"instances": [[1], [2, 3]]}', b"[" * 5000, b'{"inputs": 1e400}', b"PAR1", b"\xff\xff\xff\xff\x00\x00", b""),
    b'{"inputs": [{"name": "x", "shape": [9999999999], "datatype": "FP64", "data": []}]}',
]
NAMES = [
    *("accept", "prefer", "x-request-id", "x-modelyard-version", "x-modelyard-deployment", "traceparent", "cookie"),
    *("inference-header-content-length", "content-length", "transfer-encoding", "expect", "connection", "upgrade"),
    *("host", "origin", "authorization", "content-encoding", "range", "", "a b", "\u00e9"),
]
VALUES = st.one_of(
    st.sampled_from(
        ["respond-async", "text/csv", "chunked", "100-continue", "close", "websocket", "-1", "99999999999"]
    ),
    st.text(st.characters(codec="latin-1"), max_size=40),
)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    home = tmp_path_factory.mktemp("fuzz")
    odd_model(home / "m", home / "gate")
    with opened_plane(home) as plane:
        plane.worker("v1", home / "m")
        plane.route(plane.target("v1"), log=home / "log")
        plane.gateway()
        yield plane


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Bytes that are mostly a request."""
    method, target = draw(st.sampled_from(METHODS)), draw(st.sampled_from(TARGETS))
    target += draw(st.one_of(st.just(""), st.text(st.characters(codec="latin-1"), max_size=20)))
    body = draw(st.one_of(st.sampled_from(BODIES), st.binary(max_size=200)))
    lines = [f"{method} {target} HTTP/1.{draw(st.sampled_from('1101'))}", "host: localhost"]
    if draw(st.integers(0, 9)):
        lines.append(f"authorization: Bearer {TOKEN}")
    lines.append(f"content-type: {draw(st.sampled_from(TYPES))}")
    lines += [
        f"{name}: {value}" for name, value in draw(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=3))
    ]
    framing = draw(st.sampled_from(["length", "chunked", "short", "long", "none", "torn"]))
    if framing == "chunked":
        lines.append("transfer-encoding: chunked")
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    elif framing == "torn":
        lines.append("transfer-encoding: chunked")
        body = b"%x\r\n%s" % (len(body) + 10, body)
    elif framing != "none":
        lines.append(f"content-length: {len(body) + {'short': -3, 'long': 5}.get(framing, 0)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def exchange(plane: Plane, data: bytes) -> bytes:
    """What came back until the gateway hung up, or said all that it had to after we did."""
    with socket.create_connection(("127.0.0.1", plane.port), timeout=PATIENCE_S) as connection:
        with contextlib.suppress(OSError):  # it hung up before it had all
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        parts: list[bytes] = []
        try:
            while part := connection.recv(65536):
                parts.append(part)
        except ConnectionResetError:
            pass
        return b"".join(parts)


def check(answer: bytes) -> None:
    """Whether an answer is one of ours: a status, and an error in a protocol's shape without our inside."""
    if not answer:
        return
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    assert status in {100, 200, 202, 204, 400, 401, 403, 404, 405, 406, 408, 413, 414, 415, 422, 429, 431, 503}, (
        answer
    )
    assert b"Traceback" not in answer and b'File "' not in answer and b".py" not in answer
    if status >= 400 and body:
        content = json.loads(body[: _length(head)])
        assert set(content) in ({"error_code", "message"}, {"error"})


def _length(head: bytes) -> int | None:
    found = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return int(found[0].split(b":")[1]) if found else None


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=requests())
def test_a_request_of_any_kind_is_answered_or_hung_up_on(plane: Plane, data: bytes) -> None:
    check(exchange(plane, data))


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=400))
def test_bytes_of_any_kind_are_answered_or_hung_up_on(plane: Plane, data: bytes) -> None:
    check(exchange(plane, data))


def test_it_lives_and_says_nothing_of_its_inside(plane: Plane) -> None:
    """Last in this module: what all the requests before left behind."""
    assert plane.x(1.5)[2] == {"predictions": [3.0]}
    assert plane.processes["gateway"].poll() is None and plane.processes["v1"].poll() is None
    assert "Traceback" not in plane.log("gateway")


def test_a_head_without_end_is_cut_off(plane: Plane) -> None:
    with socket.create_connection(("127.0.0.1", plane.port), timeout=PATIENCE_S) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n")
        sent = 0
        with pytest.raises(OSError):
            while sent < 64 << 20:
                connection.sendall(b"x-more: " + b"y" * 60_000 + b"\r\n")
                sent += 60_000
        assert sent < 8 << 20
    answer = exchange(plane, b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 300_000)
    assert answer.startswith(b"HTTP/1.1 431 ") or not answer


@pytest.mark.slow
def test_a_slow_sender_is_hung_up_on_and_delays_nobody(plane: Plane) -> None:
    """A byte of the head now and then keeps a connection for 25 s at most."""
    with socket.create_connection(("127.0.0.1", plane.port), timeout=60) as slow:
        started = time.monotonic()
        slow.sendall(b"POST /endpoints/m/invocations HTTP/1.1\r\n")
        slow.settimeout(1.0)
        answer = b""
        while time.monotonic() - started < 60 and not answer:
            assert plane.x(1.5)[0] == 200
            try:
                slow.sendall(b"x")
                answer = slow.recv(1000)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408 ") and time.monotonic() - started < 40
