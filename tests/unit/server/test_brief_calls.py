"""Calls that a connection answers by itself, as a client sees them on a socket of its own."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from tests.conftest import RunningServer

Answered = tuple[int, dict[str, str], object]


@pytest.fixture
def link(server: RunningServer) -> Iterator[socket.socket]:
    parts = urlsplit(server.url)
    with closing(socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20)) as connection:
        yield connection


@pytest.fixture
def run(server: RunningServer, link: socket.socket) -> str:
    """A new run's id. Asking for it lets the server remember the token, so that brief calls are answered at once."""
    link.sendall(post(server, "create", {"experiment_id": "0"}))
    _, _, body = answers(link, 1)[0]
    assert isinstance(body, dict)
    return body["run"]["info"]["run_id"]  # pyright: ignore[reportUnknownVariableType]


def post(server: RunningServer, call: str, body: object, *extra: str, version: str = "1.1") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST /api/2.0/mlflow/runs/{call} HTTP/{version}", f"Host: {urlsplit(server.url).netloc}"]
    lines += [f"Authorization: Bearer {server.token}", f"Content-Length: {len(data)}", *extra]
    return "\r\n".join([*lines, "", ""]).encode() + data


def answers(link: socket.socket, count: int) -> list[Answered]:
    """So many answers, read to their last byte."""
    stream, found = link.makefile("rb"), list[Answered]()
    for _ in range(count):
        status = int(stream.readline().split()[1])
        headers = dict[str, str]()
        while line := stream.readline().strip().decode():
            name, _, value = line.partition(": ")
            headers[name] = value
        found.append((status, headers, json.loads(stream.read(int(headers["content-length"])))))
    return found


def metric(run: str, step: int, **other: object) -> dict[str, object]:
    return {"run_id": run, "key": "loss", "value": 0.5, "timestamp": 1, "step": step, **other}


def test_pipelined_calls_are_answered_in_their_order(server: RunningServer, link: socket.socket, run: str) -> None:
    wrong = metric(run, 0, key="")
    calls = [metric(run, 1), wrong, metric(run, 2), metric("unknown", 1), metric(run, 3)]
    link.sendall(b"".join(post(server, "log-metric", body) for body in calls))
    assert [status for status, *_ in answers(link, 5)] == [200, 400, 200, 404, 200]
    points = server.client.call(
        "GET", "/api/2.0/mlflow/metrics/get-history", query={"run_id": run, "metric_key": "loss"}
    )
    assert [point["step"] for point in points["metrics"]] == [1, 2, 3]


def test_an_error_has_the_headers_and_shape_of_every_other(
    server: RunningServer, link: socket.socket, run: str
) -> None:
    link.sendall(
        post(server, "set-tag", {"run_id": "unknown", "key": "a", "value": "b"}) + post(server, "set-tag", b"{")
    )
    (lost, lost_headers, told), (broken, _, why) = answers(link, 2)
    assert (lost, broken) == (404, 400)
    assert isinstance(told, dict) and isinstance(why, dict)
    assert told["error_code"] == "RESOURCE_DOES_NOT_EXIST" and why["error_code"] == "INVALID_PARAMETER_VALUE"
    assert lost_headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("extra", ["Connection: close", "HTTP/1.0"])
def test_a_client_that_is_done_is_told_so(server: RunningServer, link: socket.socket, run: str, extra: str) -> None:
    version, headers = ("1.0", []) if extra == "HTTP/1.0" else ("1.1", [extra])
    link.sendall(post(server, "log-metric", metric(run, 1), *headers, version=version))
    status, told, _ = answers(link, 1)[0]
    assert (status, told["connection"]) == (200, "close")
    assert link.recv(1) == b""


def test_what_any_request_may_not_do_a_brief_call_may_not(
    server: RunningServer, link: socket.socket, run: str
) -> None:
    token = f"Authorization: Bearer {server.token}".encode()
    good = post(server, "log-metric", metric(run, 1))
    foreign = good.replace(f"Host: {urlsplit(server.url).netloc}".encode(), b"Host: elsewhere.example")
    other_site = post(server, "log-metric", metric(run, 1), "Sec-Fetch-Site: cross-site")
    nobody = good.replace(token, b"Authorization: Bearer " + b"x" * 43)
    text = post(server, "log-metric", metric(run, 1), "Content-Type: text/plain")
    link.sendall(foreign + other_site + nobody + text + good)
    assert [status for status, *_ in answers(link, 5)] == [403, 403, 401, 400, 200]


def test_a_client_that_goes_away_leaves_the_server_well(server: RunningServer, run: str) -> None:
    parts = urlsplit(server.url)
    for cut in (40, 400):
        with closing(socket.create_connection((parts.hostname or "", parts.port or 0))) as gone:
            gone.sendall(post(server, "log-metric", metric(run, 1), "X-Filler: " + "x" * 300)[:cut])
    with closing(socket.create_connection((parts.hostname or "", parts.port or 0))) as gone:
        gone.sendall(post(server, "log-metric", metric(run, 7)) * 20)
    assert (
        server.client.call("GET", "/api/2.0/mlflow/runs/get", query={"run_id": run})["run"]["info"]["run_id"] == run
    )
    assert "Traceback" not in (server.project / "server.log").read_text()


def test_a_batch_is_read_alike_whether_it_is_plain_or_odd(
    server: RunningServer, link: socket.socket, run: str
) -> None:
    plain = {"key": "a", "value": 1, "timestamp": 5, "step": 2}
    odd = {"key": "a", "value": "NaN", "timestamp": "6", "step": "3", "unknown": 1}
    link.sendall(
        post(server, "log-batch", {"run_id": run, "metrics": [plain], "tags": [{"key": "t", "value": "1"}]})
        + post(server, "log-batch", {"run_uuid": run, "metrics": [odd], "params": [{"key": "p"}]})
        + post(server, "log-batch", {"run_id": run, "metrics": [plain, {**plain, "timestamp": -1}]})
        + post(server, "log-batch", {"run_id": run, "metrics": [{**plain, "key": "../b"}]})
    )
    assert [status for status, *_ in answers(link, 4)] == [200, 200, 400, 400]
    held = server.client.call("GET", "/api/2.0/mlflow/runs/get", query={"run_id": run})["run"]["data"]
    assert [(point["value"], point["step"]) for point in held["metrics"]] == [("NaN", 3)]
    assert held["params"] == [{"key": "p", "value": ""}]
    assert {"key": "t", "value": "1"} in held["tags"]
