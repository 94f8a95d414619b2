"""Two server processes on one PostgreSQL and one S3 bucket behave as one."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from modelyard.client.api import Client
from modelyard.domain.errors import Unauthenticated
from tests.conftest import RunningServer, start_server, wait_until
from tests.contract.postgres import Cluster
from tests.contract.s3server import S3Server

PROJECT = """
[project]
name = "shared"

[models.m]
task = "binary"

[models.m.gates]
auc = { min = 0.7 }

[environments.production]
approvals = 2

[environments.production.break_glass]
expires = "1h"
notify = ["desk"]

[notify.desk]
url = "json://127.0.0.1:PORT/"
"""


@pytest.fixture(scope="module")
def desk() -> Iterator["Receiver"]:
    """Where notifications go."""
    with Receiver() as receiver:
        yield receiver
        receiver.shutdown()


@pytest.fixture(scope="module")
def servers(
    cluster: Cluster, s3_server: S3Server, desk: "Receiver", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[RunningServer]]:
    options = ["--database", cluster.new_database(), "--artifacts", f"s3://{s3_server.new_bucket()}/yard"]
    started: list[RunningServer] = []
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        for name in ("first", "second"):
            project = tmp_path_factory.mktemp(name)
            (project / "modelyard.toml").write_text(PROJECT.replace("PORT", str(desk.server_port)))
            started.append(start_server(project, *options, MODELYARD_WEBHOOK_LOOPBACK="1"))
    yield started
    for server in started:
        server.stop()


@pytest.fixture
def clients(servers: list[RunningServer]) -> list[Client]:
    return [Client.connect(server.url, servers[0].token) for server in servers]


def register(client: Client, model: str, content: bytes, auc: float) -> int:
    run = client.call("POST", "/api/v1/runs", body={"experiment": "e", "name": "r"})
    made = client.call("POST", f"/api/v1/runs/{run['id']}/logged-models", body={"name": "model"})
    client.upload("PUT", f"/api/v1/artifacts/{made['artifact_root']}/model.bin", content)
    body = {"source": f"models:/{made['id']}", "run_id": run["id"], "evaluation": {"metrics": {"auc": auc}}}
    return client.call("POST", f"/api/v1/models/{model}/versions", body=body)["version"]


def test_what_one_server_stores_the_other_serves(clients: list[Client]) -> None:
    number = register(clients[0], "served", b"weights", 0.8)
    assert clients[1].download(f"/api/v1/models/served/versions/{number}/files/model.bin") == b"weights"


def test_numbers_of_versions_are_given_once(clients: list[Client]) -> None:
    given: list[int] = []

    def run(client: Client, name: str) -> None:
        for turn in range(5):
            given.append(register(client, "counted", f"{name}{turn}".encode(), 0.8))

    threads = [threading.Thread(target=run, args=(client, str(n))) for n, client in enumerate(clients * 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == list(range(1, 21))


def test_gates_and_requests_follow_once(clients: list[Client]) -> None:
    """Both servers run the subscribers; each piece of evidence leads to one verdict and one request."""
    number = register(clients[0], "gated", b"w", 0.8)
    subject = f"version/gated/{number}"

    def asked() -> bool:
        query = {"subject": subject, "types": "approval.requested"}
        return bool(clients[1].call("GET", "/api/v1/events", query=query)["events"])

    wait_until(asked, "the request for approval")
    events = clients[1].call("GET", "/api/v1/events", query={"subject": subject})["events"]
    kinds = [event["type"] for event in events]
    assert kinds.count("gates.passed") == 1 and kinds.count("approval.requested") == 1


def test_two_approvers_at_two_servers_make_one_approval(servers: list[RunningServer], clients: list[Client]) -> None:
    """Each sees one decision beside its own, whichever comes first; the second closes the request."""
    number = register(clients[0], "decided", b"w", 0.9)
    path = f"/api/v1/models/decided/versions/{number}"
    wait_until(lambda: clients[0].call("GET", path)["approvals"], "the request")
    approvers: list[Client] = []
    for name, server in zip(("eva", "finn"), servers, strict=True):
        clients[0].call("POST", "/api/v1/principals", body={"name": name, "roles": ["approver"]})
        token = clients[0].call("POST", "/api/v1/tokens", body={"principal": name})["token"]
        approvers.append(Client.connect(server.url, token))
    body = {"environment": "production", "verdict": "approve", "comment": "good"}
    threads = [
        threading.Thread(target=approver.call, args=("POST", path + "/decisions"), kwargs={"body": body})
        for approver in approvers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [approval["state"] for approval in clients[1].call("GET", path)["approvals"]] == ["approved"]


def test_a_revoked_token_ends_at_both_within_the_cache_time(
    servers: list[RunningServer], clients: list[Client]
) -> None:
    clients[0].call("POST", "/api/v1/principals", body={"name": "gone", "roles": ["auditor"]})
    made = clients[0].call("POST", "/api/v1/tokens", body={"principal": "gone"})
    theirs = [Client.connect(server.url, made["token"]) for server in servers]
    for client in theirs:
        assert client.call("GET", "/api/v1/me")["name"] == "gone"
    held = clients[0].call("GET", "/api/v1/tokens")["tokens"]
    token_id = next(token["id"] for token in held if token["principal"] == "gone")
    clients[0].call("DELETE", f"/api/v1/tokens/{token_id}")

    def refused(client: Client) -> bool:
        try:
            client.call("GET", "/api/v1/me")
        except Unauthenticated:
            return True
        return False

    assert refused(theirs[0])
    wait_until(lambda: refused(theirs[1]), "the other server to forget the token", 30)


class Receiver(ThreadingHTTPServer):
    """Takes webhooks and notifications; `got` holds the id or the words of each as often as it came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taker)
        self.got: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Taker(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.got.append(body.get("id") or f"{body['title']} {body['message']}")
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


def test_each_event_is_delivered_to_a_webhook_by_one_of_them(clients: list[Client]) -> None:
    """Events of both servers' making; none is lost, none comes twice."""
    with Receiver() as receiver:
        url = f"http://127.0.0.1:{receiver.server_port}/"
        body = {"name": "ci", "url": url, "events": ["version.registered"]}
        hook = clients[0].call("POST", "/api/v1/webhooks", body=body)["id"]
        for turn in range(5):
            for index, client in enumerate(clients):
                register(client, "told", f"{turn} {index}".encode(), 0.8)

        def done() -> bool:
            made = clients[1].call("GET", f"/api/v1/webhooks/{hook}/deliveries")["deliveries"]
            return len(made) == 10 and all(item["state"] == "delivered" for item in made)

        wait_until(done, "the deliveries", 60)
        clients[0].call("DELETE", f"/api/v1/webhooks/{hook}")
        receiver.shutdown()
    events = clients[1].call("GET", "/api/v1/events", query={"types": "version.registered", "limit": 1000})["events"]
    assert sorted(receiver.got) == sorted(event["id"] for event in events if "/told/" in event["subject"])


def test_each_job_runs_at_one_of_them(clients: list[Client], desk: Receiver) -> None:
    """Jobs of both servers' making, taken by whichever is free: none is lost, none runs twice."""
    for number in [register(clients[0], "job", f"{turn}".encode(), 0.8) for turn in range(10)]:
        body = {"environment": "production", "reason": f"outage number {number}, nobody else is awake"}
        clients[number % 2].call("POST", f"/api/v1/models/job/versions/{number}/break-glass", body=body)

    def sent() -> list[dict[str, str]]:
        query = {"types": "notification.sent", "limit": 1000}
        return clients[1].call("GET", "/api/v1/events", query=query)["events"]

    wait_until(lambda: len(sent()) >= 10, "the notifications", 60)
    assert len(sent()) == len(desk.got) == 10
    assert [sum(f"outage number {number}," in words for words in desk.got) for number in range(1, 11)] == [1] * 10


def test_the_chain_of_both_is_intact(clients: list[Client]) -> None:
    found = clients[1].call("GET", "/api/v1/audit/verification")
    assert found["intact"] and found["records"] > 50


def test_a_killed_server_leaves_its_work_to_the_other(servers: list[RunningServer], clients: list[Client]) -> None:
    """What the dead server had acknowledged is there, and what follows from it is done by the one that lives."""
    number = register(clients[0], "survivor", b"w", 0.8)
    os.kill(servers[0].process.pid, signal.SIGKILL)
    servers[0].process.wait(20)
    path = f"/api/v1/models/survivor/versions/{number}"
    wait_until(lambda: clients[1].call("GET", path)["approvals"], "the request for approval")
    assert clients[1].call("GET", "/api/v1/audit/verification")["intact"]


def test_homes_hold_no_blobs(servers: list[RunningServer]) -> None:
    kept = [file for server in servers for file in (server.home / "objects").rglob("*") if file.is_file()]
    assert kept == [] and isinstance(servers[0].home, Path)
