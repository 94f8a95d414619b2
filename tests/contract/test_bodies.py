"""Artifacts over HTTP, from local files and from S3: whole, by range, large in constant memory, and broken off."""

import hashlib
import http.client
import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import RunningServer, start_server, wait_until

FILES = "/api/2.0/mlflow-artifacts/artifacts/0/r/artifacts"
LARGE = 100 << 20
PIECE = bytes(range(256)) * 4096


@pytest.fixture(scope="module", params=["local", "s3"])
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with pytest.MonkeyPatch.context() as patch:
        options: list[str] = []
        if request.param == "s3":
            s3 = request.getfixturevalue("s3_server")
            for name, value in s3.environment.items():
                patch.setenv(name, value)
            options = ["--artifacts", f"s3://{s3.new_bucket()}/yard"]
        running = start_server(tmp_path_factory.mktemp("hub"), *options)
        yield running
        running.stop()


@pytest.fixture
def link(hub: RunningServer) -> Iterator[http.client.HTTPConnection]:
    parts = urlsplit(hub.url)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)) as connection:
        yield connection


def ask(
    hub: RunningServer, link: http.client.HTTPConnection, method: str, path: str, body: object = None, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    link.request(method, FILES + path, body, {"authorization": f"Bearer {hub.token}", **headers})  # pyright: ignore
    answer = link.getresponse()
    return answer, answer.read()


def resident_mb(hub: RunningServer) -> float:
    lines = Path(f"/proc/{hub.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def incoming(hub: RunningServer) -> list[Path]:
    return [file for folder in hub.home.rglob("incoming") for file in folder.iterdir()]


@pytest.mark.parametrize("size", [11, 3 << 20])
def test_ranges(hub: RunningServer, link: http.client.HTTPConnection, size: int) -> None:
    data = (PIECE * 4)[:size]
    path = f"/ranges-{size}"
    assert ask(hub, link, "PUT", path, data)[0].status == 200
    whole, body = ask(hub, link, "GET", path)
    assert (whole.status, body, whole.headers["accept-ranges"]) == (200, data, "bytes")
    for header, start, end in [
        ("bytes=0-0", 0, 1),
        ("bytes=3-", 3, size),
        ("bytes=-4", size - 4, size),
        (f"bytes=5-{size + 100}", 5, size),
        (f"bytes=-{size + 100}", 0, size),
        (f"bytes={size - 1}-{size - 1}", size - 1, size),
    ]:
        answer, body = ask(hub, link, "GET", path, range=header)
        if end - start == size:
            assert (answer.status, body) == (200, data)
            continue
        assert (answer.status, body) == (206, data[start:end]), header
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
    for header in (f"bytes={size}-", "bytes=-0"):
        answer, _ = ask(hub, link, "GET", path, range=header)
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{size}")
    for header in ("bytes=5-3", "bytes=-", "bytes=0-1,3-4", "lines=1-2", "bytes=x-"):
        assert ask(hub, link, "GET", path, range=header)[1] == data
    tag = whole.headers["etag"]
    assert ask(hub, link, "GET", path, range="bytes=1-2", **{"if-range": tag})[1] == data[1:3]
    assert ask(hub, link, "GET", path, range="bytes=1-2", **{"if-range": '"other"'})[1] == data
    head, nothing = ask(hub, link, "HEAD", path)
    assert (head.status, nothing, int(head.headers["content-length"])) == (200, b"", size)


def test_large_content_in_constant_memory(hub: RunningServer, link: http.client.HTTPConnection) -> None:
    """100 MB up and down over one connection, while the server grows by less than 70 MB; parts have 8 MB."""
    ask(hub, link, "PUT", "/warm", PIECE * 10)
    ask(hub, link, "GET", "/warm")
    before, highest = resident_mb(hub), 0.0
    expected = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        nonlocal highest
        for _ in range(LARGE // len(PIECE)):
            expected.update(PIECE)
            highest = max(highest, resident_mb(hub))
            yield PIECE

    answer, body = ask(hub, link, "PUT", "/large", pieces(), **{"content-length": str(LARGE)})
    assert answer.status == 200, body
    link.request("GET", f"{FILES}/large", headers={"authorization": f"Bearer {hub.token}"})
    answer, found = link.getresponse(), hashlib.sha256()
    while piece := answer.read(1 << 20):
        found.update(piece)
        highest = max(highest, resident_mb(hub))
    assert found.hexdigest() == expected.hexdigest() == answer.headers["etag"].strip('"')
    assert highest - before < 70
    assert ask(hub, link, "GET", "/warm", range="bytes=0-3")[1] == PIECE[:4]  # the connection goes on


def test_a_reader_that_waits_gets_everything(hub: RunningServer, link: http.client.HTTPConnection) -> None:
    data = PIECE * 24
    ask(hub, link, "PUT", "/slow", data)
    link.request("GET", f"{FILES}/slow", headers={"authorization": f"Bearer {hub.token}"})
    answer = link.getresponse()
    start = answer.read(1000)
    other = hub.client.call("GET", "/api/v1/me")  # the server does not wait with it
    assert other["name"] == "owner"
    assert start + answer.read() == data


@pytest.mark.parametrize("part", [PIECE[:1000], PIECE * 8])
def test_an_upload_that_breaks_off_leaves_nothing(hub: RunningServer, part: bytes) -> None:
    parts = urlsplit(hub.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as link:
        head = f"PUT {FILES}/broken HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {hub.token}\r\n"
        link.sendall(f"{head}content-length: {LARGE}\r\n\r\n".encode() + part)
        wait_until(lambda: incoming(hub), "the upload's beginning")
    wait_until(lambda: not incoming(hub), "its removal")
    assert hub.process.poll() is None
    log = (hub.project / "server.log").read_text()
    assert "Traceback" not in log, log


def test_a_reader_that_goes_away_disturbs_nobody(hub: RunningServer, link: http.client.HTTPConnection) -> None:
    ask(hub, link, "PUT", "/left", PIECE * 24)
    parts = urlsplit(hub.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as other:
        head = f"GET {FILES}/left HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {hub.token}\r\n\r\n"
        other.sendall(head.encode())
        assert other.recv(1000).startswith(b"HTTP/1.1 200")
    assert ask(hub, link, "GET", "/left", range="bytes=0-3")[1] == PIECE[:4]
    assert "Traceback" not in (hub.project / "server.log").read_text()


def test_requests_in_one_breath_are_answered_in_order(hub: RunningServer) -> None:
    """A large upload followed at once, on its connection, by a small one and a read of it."""
    parts, data = urlsplit(hub.url), PIECE * 3
    head = f"HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {hub.token}\r\n"
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30) as link:
        for name, body in (("first", data), ("second", b"small")):
            link.sendall(f"PUT {FILES}/{name} {head}content-length: {len(body)}\r\n\r\n".encode() + body)
        link.sendall(f"GET {FILES}/second {head}connection: close\r\n\r\n".encode())
        received = b""
        while piece := link.recv(1 << 16):
            received += piece
    assert received.count(b"HTTP/1.1 200") == 3 and received.endswith(b"small")


@pytest.mark.parametrize("size", [900_000, 8 << 20])
def test_a_full_disk_is_told_and_leaves_no_half_file(tmp_path: Path, small_disk: Path, size: int) -> None:
    """By MLflow's error shape; the connection and the server go on."""
    (tmp_path / "yard").mkdir()
    hub = start_server(tmp_path / "yard", "--artifacts", str(small_disk))
    parts = urlsplit(hub.url)
    link = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        for number in range(5):  # one after the other until the disk is full
            answer, body = ask(hub, link, "PUT", f"/file{number}", os.urandom(size))
            if answer.status != 200:
                break
        told = json.loads(body)
        assert (answer.status, told["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        assert "No space left on device" in told["message"] and "Free space" in told["message"]
        assert incoming(hub) == [] and list((small_disk / "incoming").iterdir()) == []
        assert ask(hub, link, "GET", f"/file{number}")[0].status == 404
        assert ask(hub, link, "PUT", "/small", b"fits")[0].status == 200
    finally:
        link.close()
        hub.stop()
