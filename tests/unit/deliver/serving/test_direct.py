"""The gateway's data path over raw connections: what is answered by callbacks, and what the application answers."""

import json
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.unit.deliver.serving.conftest import TOKEN, Plane, odd_model, opened_plane

INVOKE = "/endpoints/m/invocations"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    home = tmp_path_factory.mktemp("direct")
    with opened_plane(home) as plane:
        plane.worker("v1", odd_model(home / "odd", home / "gate"))
        plane.route(plane.target("v1"), limits={"max_body_bytes": 2000, "timeout_s": 20})
        plane.gateway()
        yield plane


def asked(value: float, path: str = INVOKE, version: str = "1.1", **headers: str) -> bytes:
    body = json.dumps({"inputs": {"x": [value]}}).encode()
    given = {"host": "localhost", "authorization": f"Bearer {TOKEN}", "content-length": str(len(body))}
    given |= {name.replace("_", "-"): text for name, text in headers.items()}
    lines = "".join(f"{name}: {text}\r\n" for name, text in given.items() if text)
    return f"POST {path} HTTP/{version}\r\n{lines}\r\n".encode() + body


class Caller:
    def __init__(self, plane: Plane) -> None:
        self.socket = socket.create_connection(("127.0.0.1", plane.port), timeout=20)
        self.stream = self.socket.makefile("rb")

    def close(self) -> None:
        self.stream.close()
        self.socket.close()

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self.stream.readline().split()[1])
        headers: dict[str, str] = {}
        while (line := self.stream.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        return status, headers, self.stream.read(int(headers.get("content-length", 0)))

    def prediction(self) -> float:
        status, _, body = self.answer()
        assert status == 200, body
        return json.loads(body)["predictions"][0]

    def closed(self) -> bool:
        return self.stream.read(1) == b""


@pytest.fixture
def caller(shared: Plane) -> Iterator[Caller]:
    caller = Caller(shared)
    yield caller
    caller.close()


def test_requests_sent_before_their_answers_are_answered_in_order(caller: Caller):
    refused = asked(0.0, authorization="Bearer wrong")
    health = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
    caller.socket.sendall(asked(1.0) + asked(2.0) + refused + asked(3.0) + health + asked(4.0))
    assert caller.prediction() == 2.0 and caller.prediction() == 4.0
    assert caller.answer()[0] == 401
    assert caller.prediction() == 6.0
    assert caller.answer()[2] == b"OK"
    assert caller.prediction() == 8.0


def test_a_request_may_arrive_byte_by_byte(caller: Caller):
    for byte in asked(5.0):
        caller.socket.sendall(bytes([byte]))
    assert caller.prediction() == 10.0
    caller.socket.sendall(asked(6.0))
    assert caller.prediction() == 12.0


def test_a_caller_may_ask_for_the_end_of_its_connection(caller: Caller):
    caller.socket.sendall(asked(1.0, connection="close"))
    status, headers, _ = caller.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert caller.closed()


def test_older_http_chunks_and_expectations_are_answered_by_the_application(shared: Plane):
    body = b'{"inputs": {"x": [1.5]}}'
    chunked = asked(0.0, content_length="", transfer_encoding="chunked").partition(b"\r\n\r\n")[0]
    for sent in (
        asked(1.5, version="1.0"),
        chunked + b"\r\n\r\n" + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
        asked(1.5, path=INVOKE + "?a=b"),
        asked(1.5, path="/endpoints/%6d/invocations"),
    ):
        caller = Caller(shared)
        caller.socket.sendall(sent)
        assert caller.prediction() == 3.0
        caller.close()
    caller = Caller(shared)
    head, _, body = asked(1.5, expect="100-continue").partition(b"\r\n\r\n")
    caller.socket.sendall(head + b"\r\n\r\n")
    assert caller.answer()[0] == 100
    caller.socket.sendall(body)
    assert caller.prediction() == 3.0
    caller.close()


def test_lengths_that_contradict_each_other_are_refused(caller: Caller):
    caller.socket.sendall(asked(1.0).replace(b"content-length", b"content-length: 3\r\ncontent-length", 1))
    assert caller.answer()[0] == 400
    assert caller.closed()


def test_a_body_that_is_too_large_is_refused_before_it_is_read(caller: Caller):
    caller.socket.sendall(asked(1.0, content_length="3000")[:-10])
    assert caller.answer()[0] == 413


def test_a_caller_that_left_costs_nobody_anything(shared: Plane, caller: Caller):
    before = shared.counted("v1")["requests"]
    for cut in (-5, None):
        gone = Caller(shared)
        gone.socket.sendall(asked(7.0)[:cut])
        gone.close()
    wait_until(lambda: shared.counted("v1")["requests"] == before + 1, "the request of the caller that left")
    caller.socket.sendall(asked(8.0))
    assert caller.prediction() == 16.0


def test_a_worker_that_is_lost_is_asked_again(plane: Plane, tmp_path: Path):
    """Two workers; the request that ends its worker is answered 502 after the second, all others as ever."""
    model = odd_model(tmp_path / "odd", tmp_path / "gate")
    plane.worker("a", model)
    plane.worker("b", model)
    plane.route(plane.target("a", sockets=[plane.socket("a"), plane.socket("b")]))
    plane.gateway()
    caller = Caller(plane)
    caller.socket.sendall(asked(1.0))
    assert caller.prediction() == 2.0
    plane.processes["a"].kill()
    plane.processes["a"].wait(10)
    for value in (1.0, 2.0, 3.0, 4.0):
        caller.socket.sendall(asked(value))
        assert caller.prediction() == value * 2
    caller.close()


def test_a_connection_that_nobody_uses_is_closed_and_a_used_one_is_not(tmp_path: Path):
    with opened_plane(tmp_path) as plane:
        plane.worker("v1", odd_model(tmp_path / "odd", tmp_path / "gate"))
        plane.route(plane.target("v1"))
        plane.gateway(options=("--keep-alive", "3"))
        unused, used = Caller(plane), Caller(plane)
        unused.socket.sendall(asked(1.0))
        assert unused.prediction() == 2.0

        def ended() -> bool:
            used.socket.sendall(asked(2.0))
            assert used.prediction() == 4.0
            return bool(select.select([unused.socket], [], [], 0.3)[0])

        wait_until(ended, "the unused connection to be closed")
        assert unused.closed()
        used.socket.sendall(asked(3.0))
        assert used.prediction() == 6.0
        unused.close()
        used.close()
