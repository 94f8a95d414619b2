"""`modelyard webhook` as a reader of the page would use it: signed, told at least once, its secret never shown."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MINIMAL, RunningServer, start_server, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "tell-other-services.md"


class Receiver(HTTPServer):
    """Refuses the first `refusals` requests, and keeps all."""

    refusals = 0

    def __init__(self) -> None:
        self.taken: list[tuple[dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.taken.append(({key.lower(): value for key, value in self.headers.items()}, body))
        self.send_response(503 if len(self.server.taken) <= self.server.refusals else 204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return None


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[RunningServer]:
    (tmp_path / "modelyard.toml").write_text(MINIMAL)
    running = start_server(tmp_path, MODELYARD_WEBHOOK_LOOPBACK="1")
    yield running
    running.stop()


def modelyard(yard: RunningServer, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "modelyard", *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MODELYARD")}
    return subprocess.run(
        command, cwd=yard.project, env=clean, capture_output=True, text=True, timeout=60, check=False
    )


def verifier() -> Any:
    """The page's own check of a signature."""
    found: dict[str, Any] = {}
    exec(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)[0], found)
    return found["is_ours"]


def test_a_webhook_from_add_to_rm(yard: RunningServer, receiver: Receiver) -> None:
    url = f"http://127.0.0.1:{receiver.server_port}/hook"
    added = modelyard(yard, "webhook", "add", "my chat", url, "model.created")
    assert added.returncode == 0, added.stderr
    file = yard.home / "webhooks" / "my-chat.secret"
    secret = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600 and str(file) in added.stdout
    listed = modelyard(yard, "webhook", "list", "--json")
    webhook_id = json.loads(listed.stdout)[0]["id"]

    tried = modelyard(yard, "webhook", "test", webhook_id)
    assert tried.returncode == 0 and "took it (204)" in tried.stdout, tried.stderr
    receiver.refusals = 2  # the test, and the first attempt of what follows
    yard.client.call("POST", "/api/2.0/mlflow/registered-models/create", body={"name": "told"})
    wait_until(lambda: len(receiver.taken) >= 3, "the second attempt", 60)
    first, second = receiver.taken[1:3]
    assert first[0]["webhook-id"] == second[0]["webhook-id"] and first[1] == second[1]
    assert json.loads(second[1])["subject"] == "model/told"
    is_ours = verifier()
    for headers, body in receiver.taken:
        assert is_ours(headers, body, secret) and not is_ours(headers, body + b" ", secret)

    def delivered() -> bool:
        shown = modelyard(yard, "webhook", "deliveries", webhook_id, "--json")
        return [(item["state"], item["attempts"]) for item in json.loads(shown.stdout)] == [("delivered", 2)]

    wait_until(delivered, "the delivery to be noted")
    removed = modelyard(yard, "webhook", "rm", webhook_id)
    assert removed.returncode == 0 and "No webhooks" in modelyard(yard, "webhook", "list").stdout
    said = [added, listed, tried, removed]
    assert all(secret not in done.stdout + done.stderr for done in said)
    assert secret not in (yard.project / "server.log").read_text()
    assert secret not in json.dumps(yard.client.call("GET", "/api/v1/events", query={"limit": 1000}))


def test_a_secret_of_ones_own_and_what_is_refused(yard: RunningServer, receiver: Receiver, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{receiver.server_port}/hook"
    own = tmp_path / "own.secret"
    own.write_text("a secret of sixteen or more\n")
    added = modelyard(yard, "webhook", "add", "own", url, "alert.opened", "--secret-file", str(own), "--json")
    assert added.returncode == 0, added.stderr
    webhook_id = json.loads(added.stdout)["id"]
    assert "secret" not in json.loads(added.stdout)
    assert modelyard(yard, "webhook", "test", webhook_id).returncode == 0
    assert verifier()(*receiver.taken[0], "a secret of sixteen or more")
    receiver.refusals = 9
    failed = modelyard(yard, "webhook", "test", webhook_id)
    assert failed.returncode == 1 and "answered 503" in failed.stderr
    own.write_text("short")
    for arguments, words in (
        (("add", "own", url, "alert.opened", "--secret-file", str(own)), "shorter than 16"),
        (("add", "x", url, "run.created"), "Not an event for a webhook"),
        (("add", "x", "http://169.254.169.254/", "alert.opened"), "do not go to"),
        (("rm", "nothing"), "no webhook"),
    ):
        done = modelyard(yard, "webhook", *arguments)
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr
    assert not (yard.home / "webhooks" / "x.secret").exists()
