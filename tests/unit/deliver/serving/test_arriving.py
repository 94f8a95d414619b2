"""What callers may do to a connection besides asking one thing after another."""

import contextlib
import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelyard.deliver.serving import scaling
from tests.conftest import wait_until
from tests.unit.deliver.serving.conftest import TOKEN, Plane, odd_model, opened_plane

BODY = b'{"inputs": {"x": [1.5]}}'
ANSWER = b'{"predictions":[3.0]}'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    home = tmp_path_factory.mktemp("shared")
    with opened_plane(home) as plane:
        plane.worker("v1", odd_model(home / "odd", home / "gate"))
        plane.route(plane.target("v1"))
        plane.gateway()
        yield plane


def request(*more: str, body: bytes = BODY, path: str = "/endpoints/m/invocations") -> bytes:
    """A whole request; `more` are further header lines."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {TOKEN}"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", *more, "", ""]).encode() + body


def chunked(*after: bytes) -> bytes:
    """A request in chunks, what comes after the first chunk being open."""
    head = request("Transfer-Encoding: chunked", body=b"").replace(b"Content-Length: 0\r\n", b"")
    return head + b"%x\r\n%s\r\n" % (len(BODY), BODY) + b"".join(after)


@contextlib.contextmanager
def connected(plane: Plane) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", plane.port), timeout=20) as connection:
        yield connection


def everything(connection: socket.socket) -> bytes:
    """All that comes until the gateway hangs up."""
    parts: list[bytes] = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("by", [request, lambda: chunked(b"0\r\n\r\n")], ids=["length", "chunks"])
def test_a_caller_that_ends_its_side_gets_all_its_answers(shared: Plane, count: int, by: Callable[[], bytes]):
    with connected(shared) as connection:
        connection.sendall(by() * count)
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection).count(ANSWER) == count


def test_a_caller_that_ends_its_side_in_the_middle_gets_none(shared: Plane):
    with connected(shared) as connection:
        connection.sendall(request()[:-3])
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection) == b""


@pytest.mark.parametrize("name", ["Upgrade", "upgrade", "UPGRADE"])
def test_an_offer_of_http_2_is_declined_and_the_request_answered(shared: Plane, name: str):
    """As Java's client makes with each request, and `curl --http2`."""
    offered = ("Connection: Upgrade, HTTP2-Settings", f"{name}: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    with connected(shared) as connection:
        for _ in range(2):
            connection.sendall(request(*offered))
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(ANSWER)


def test_a_body_that_speaks_of_an_upgrade_stays_as_it_is(shared: Plane):
    body = b"x\r\nupgrade: h2c\r\n"
    with connected(shared) as connection:
        connection.sendall(request("Content-Type: text/csv", body=body))
        answer = connection.recv(65536)
    assert b"400" in answer.split(b"\r\n")[0] and b"'upgrade: h2c'" in answer


def test_curl_may_offer_http_2(shared: Plane):
    url = f"http://127.0.0.1:{shared.port}/endpoints/m/invocations"
    headers = ["-H", f"authorization: Bearer {TOKEN}", "-H", "content-type: application/json"]
    done = subprocess.run(["curl", "-s", "--http2", *headers, "-d", BODY, url], capture_output=True, timeout=30)
    assert done.returncode == 0 and done.stdout == ANSWER


def test_what_follows_a_request_and_is_none_does_not_take_its_answer(shared: Plane):
    with connected(shared) as connection:
        connection.sendall(request() + b"\x00\x01 is no request\r\n\r\n")
        assert ANSWER in everything(connection)


@pytest.mark.parametrize("hosts", [("evil.example", "localhost"), ("localhost", "localhost")])
def test_two_hosts_are_refused(shared: Plane, hosts: tuple[str, str]):
    """A front and we could each look at another one."""
    with connected(shared) as connection:
        asked = request().replace(b"Host: localhost", f"Host: {hosts[0]}\r\nHost: {hosts[1]}".encode())
        connection.sendall(asked)
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 400 ") and b"more than one Host" in answer


def test_a_head_in_one_piece_has_the_same_bound(shared: Plane):
    with connected(shared) as connection:
        connection.sendall(request("X-More: " + "y" * 100_000))
        assert everything(connection).startswith(b"HTTP/1.1 431 ")
    with connected(shared) as connection:
        connection.sendall(request("X-More: " + "y" * 60_000))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("without_end", [b"0\r\nX-More: ", b"5;"], ids=["trailers", "extensions"])
def test_trailers_and_extensions_of_chunks_without_end_are_cut_off(shared: Plane, without_end: bytes):
    with connected(shared) as connection:
        connection.sendall(chunked(without_end))
        sent = 0
        with pytest.raises(OSError):
            while sent < 64 << 20:
                connection.sendall(b"y" * 60_000)
                sent += 60_000
        assert sent < 8 << 20
    assert shared.x(1.5)[0] == 200


def test_a_packed_request_is_answered_where_plain_ones_are(shared: Plane):
    import gzip

    with connected(shared) as connection:
        connection.sendall(request("Content-Encoding: gzip", body=gzip.compress(BODY)) + request())
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection).count(ANSWER) == 2


@pytest.mark.parametrize("before", [(), (1.0,)], ids=["first", "after quick ones"])
def test_health_is_told_at_the_limit_of_concurrency(plane: Plane, odd: Path, gate: Path, before: tuple[float, ...]):
    plane.worker("v1", odd)
    plane.route(plane.target("v1"), limits={"max_concurrency": 1})
    plane.gateway()
    for value in before:
        assert plane.x(value)[0] == 200
    with connected(plane) as connection:
        connection.sendall(request(body=b'{"inputs": {"x": [-3]}}'))
        wait_until(Path(f"{gate}.waiting").exists, "the model to be busy")
        assert plane.x(1.0)[0] == 429
        metrics = plane.call("GET", "/metrics")[2]
        assert b'modelyard_under_way{endpoint="m"} 1\n' in metrics
        assert b'modelyard_concurrency_limit{endpoint="m"} 1\n' in metrics
        assert b'modelyard_refused_total{endpoint="m",status="429"} ' in metrics
        for path in ("/endpoints/m/ping", "/endpoints/m/v2/models/m/ready", "/v2/health/ready"):
            assert plane.call("GET", path)[0] == 200
        gate.touch()
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_version_that_has_no_traffic_does_not_make_the_gateway_unready(plane: Plane, odd: Path):
    """Such as one on its way: a balancer would take the machine out at each rollout."""
    plane.worker("v1", odd)
    coming = plane.target("v2", weight=0, version=2)
    plane.route(plane.target("v1"), coming)
    plane.gateway()
    assert plane.call("GET", "/v2/health/ready")[0] == 200
    states = {e["version"]: e["state"] for e in json.loads(plane.call("POST", "/v2/repository/index", b"{}")[2])}
    assert states == {"1": "READY", "2": "UNAVAILABLE"}
    plane.reroute(plane.target("v1"), {**coming, "weight": 0.1})
    assert plane.call("GET", "/v2/health/ready")[0] == 503


@pytest.mark.slow
def test_sigterm_lets_a_request_finish_within_its_own_time(plane: Plane, odd: Path, gate: Path):
    """Longer than the ten seconds that an end takes at least where something hangs."""
    plane.worker("v1", odd)
    plane.route(plane.target("v1"), limits={"timeout_s": 40})
    gateway = plane.gateway()
    with connected(plane) as connection:
        connection.sendall(request(body=b'{"inputs": {"x": [-3]}}'))
        wait_until(Path(f"{gate}.waiting").exists, "the model to be busy")
        gateway.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            gateway.wait(13)
        gate.touch()
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert gateway.wait(10) in (0, -15)


def test_a_probe_does_not_wake_a_version_that_sleeps(plane: Plane):
    scale = {"min": 0, "max": 1, "concurrency": 1, "down_after_s": 0.1, "idle_s": 0.1}
    plane.route({**plane.target("v1"), "scale": scale})
    plane.gateway()
    wait_until(lambda: scaling.wanted(plane.folder) == {"v1": 0}, "the version to sleep")
    assert plane.call("GET", "/endpoints/m/ping")[0] == 200
    status, headers, body = plane.call("GET", "/endpoints/m/v2/models/m/ready")
    assert (
        status == 200 and json.loads(body) == {"name": "m", "ready": True} and headers["x-modelyard-version"] == "1"
    )
    metrics = plane.call("GET", "/metrics")[2]
    assert b'modelyard_workers{deployment="v1",count="wanted"} 0\n' in metrics
    assert scaling.wanted(plane.folder) == {"v1": 0}
