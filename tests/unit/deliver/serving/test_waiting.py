"""Asynchronous requests: accepted, answered later, whatever is killed between."""

import json
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from modelyard.deliver.serving.waiting_store import Full, WaitingStore
from modelyard.kit.hashing import sha256_hex
from tests.conftest import wait_until
from tests.unit.deliver.serving.conftest import JSON, TOKEN, Plane

LATER = {"prefer": "respond-async", "content_type": JSON}


def later(plane: Plane, *values: float, **headers: str) -> tuple[int, dict[str, str], Any]:
    body = json.dumps({"inputs": {"x": list(values)}}).encode()
    status, found, answer = plane.call("POST", "/endpoints/m/invocations", body, **{**LATER, **headers})
    return status, found, json.loads(answer)


def result(plane: Plane, accepted: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    """The answer, once it is there."""

    def fetched() -> Any:
        status, headers, body = plane.call("GET", accepted["result"])
        return (status, headers, json.loads(body)) if status != 202 else None

    found = wait_until(fetched, "the answer")
    assert isinstance(found, tuple)
    return found


@pytest.fixture
def waiting(plane: Plane, odd: Path) -> Plane:
    plane.worker("v1", odd)
    plane.route(plane.target("v1"))
    plane.gateway()
    return plane


def test_an_answer_is_fetched_later_by_its_caller_alone(waiting: Plane) -> None:
    status, headers, accepted = later(waiting, 1.5, 2.0, x_request_id="mine")
    assert status == 202 and headers["preference-applied"] == "respond-async"
    assert headers["location"] == f"/endpoints/m/requests/{accepted['id']}" and accepted["status"] is None
    status, found, answer = result(waiting, accepted)
    assert status == 200 and answer == {"predictions": [3.0, 4.0]}
    assert found["x-modelyard-version"] == "1" and found["x-prediction-id"] and found["x-request-id"] == "mine"
    shown = json.loads(waiting.call("GET", headers["location"])[2])
    assert (shown["state"], shown["status"], shown["attempts"]) == ("done", 200, 1)
    tokens = {sha256_hex(TOKEN.encode()): "tester", sha256_hex(b"another"): "somebody"}
    revision = waiting.route(waiting.target("v1"), tokens=tokens)
    wait_until(lambda: waiting.stats().get("revision") == revision, "the routing")
    assert waiting.call("GET", accepted["result"], authorization="Bearer another")[0] == 404
    assert waiting.call("DELETE", headers["location"])[0] == 204
    assert waiting.call("GET", accepted["result"])[0] == 404


def test_what_is_refused_and_what_fails_is_the_answer(waiting: Plane) -> None:
    bad = json.dumps({"inputs": {"y": [1]}}).encode()
    accepted = json.loads(waiting.call("POST", "/endpoints/m/invocations", bad, **LATER)[2])
    assert result(waiting, accepted)[0] == 400
    status, _, answer = result(waiting, later(waiting, -1.0)[2])
    assert status == 500 and "inside" not in answer["message"]
    assert waiting.call("GET", "/endpoints/m/requests/" + "0" * 32)[0] == 404
    assert waiting.call("POST", accepted["result"])[0] == 405
    assert waiting.call("POST", "/endpoints/m/invocations", b"{}", prefer="respond-async", authorization="")[0] == 401


def test_the_queue_is_bounded(plane: Plane, odd: Path, gate: Path) -> None:
    plane.worker("v1", odd)
    endpoint = {"model": "m", "routes": [plane.target("v1")], "queue": {"max_requests": 2}}
    plane.route_endpoints({"m": endpoint})
    plane.gateway()
    held = [later(plane, -3.0)[2], later(plane, 2.0)[2]]
    assert b'modelyard_waiting_requests{endpoint="m"} 2' in plane.call("GET", "/metrics")[2]
    status, headers, answer = later(plane, 3.0)
    assert status == 429 and headers["retry-after"] and answer["error_code"] == "REQUEST_LIMIT_EXCEEDED"
    gate.touch()
    assert [result(plane, item)[2]["predictions"] for item in held] == [[-6.0], [4.0]]
    assert later(plane, 3.0)[0] == 202


def test_nothing_accepted_is_lost_by_kill_nine(waiting: Plane, gate: Path) -> None:
    """The gateway dies with one request under way and three behind it; then its worker, over a request."""
    accepted = [later(waiting, value)[2] for value in (-3.0, 1.0, 2.0, 3.0)]
    wait_until(lambda: Path(f"{gate}.waiting").exists(), "the first to be asked")
    waiting.processes["gateway"].send_signal(signal.SIGKILL)
    waiting.processes["gateway"].wait()
    waiting.processes["v1"].send_signal(signal.SIGKILL)
    waiting.processes["v1"].wait()
    waiting.gateway("again", waiting.port)
    shown = json.loads(waiting.call("GET", f"/endpoints/m/requests/{accepted[3]['id']}")[2])
    assert shown["state"] == "queued"
    gate.touch()
    waiting.launch_worker("v1", waiting.home / "v1.json")
    answers = [result(waiting, item)[2]["predictions"] for item in accepted]
    assert answers == [[-6.0], [2.0], [4.0], [6.0]]


def test_the_file_keeps_bounds_order_and_no_body_that_is_answered(tmp_path: Path) -> None:
    store = WaitingStore(tmp_path / "w.db")
    secret = b"a secret that is forgotten" * 100
    first, second = "1" * 32, "2" * 32
    store.add(first, "m", "ana", "invocations", "{}", secret, (2, 10_000), 2**62)
    store.add(second, "m", "ana", "invocations", "{}", b"2", (2, 10_000), 1)
    with pytest.raises(Full):
        store.add("3", "m", "ana", "invocations", "{}", b"3", (2, 10_000), 2**62)
    with pytest.raises(Full):
        store.add("4", "n", "ana", "invocations", "{}", b"x" * 10, (2, 9), 2**62)
    taken = store.take("m")
    assert taken is not None and taken.id == first and taken.attempts == 1
    store.finish(first, 200, "[]", b"answer", 2**62)
    store.expire()
    assert store.shown("m", "ana", second) is None and store.take("m") is None
    assert store.shown("m", "boris", first) is None and store.answer(first) == (200, "[]", b"answer")
    store.close()
    with sqlite3.connect(tmp_path / "w.db") as db:
        db.execute("pragma wal_checkpoint(truncate)")
    db.close()
    assert secret[:20] not in (tmp_path / "w.db").read_bytes()
    assert (tmp_path / "w.db").stat().st_mode & 0o077 == 0


def test_labels_at_the_gateway(waiting: Plane, tmp_path: Path) -> None:
    from modelyard.deliver.serving import ground_truth

    labeler = {sha256_hex(b"labels-only"): "loop"}
    log = tmp_path / "log"
    waiting.reroute(waiting.target("v1"), log=log, labelers=labeler)
    _, headers, _ = waiting.x(1.0)
    identity = headers["x-prediction-id"]
    sent = {"content_type": JSON, "authorization": "Bearer labels-only"}
    where = "/endpoints/m/ground-truth"

    def send(content: Any, **more: str) -> tuple[int, dict[str, str], bytes]:
        return waiting.call("POST", where, json.dumps(content).encode(), **{**sent, **more})

    late, early = {"id": identity, "label": 0.0, "time": 5}, {"id": "not-asked-yet", "label": 1.0}
    assert send({"labels": [early, late]})[2] == b'{"labels":2}'
    assert send({"labels": [{"id": identity, "label": 1.0}]})[0] == 200
    assert ground_truth.read(log) == {"not-asked-yet": 1.0, identity: 1.0}
    assert send({"labels": [{"id": 1, "label": "x"}]})[0] == 400
    assert send({"labels": []}, authorization=f"Bearer {TOKEN}")[0] == 403
    assert waiting.call("POST", "/endpoints/m/invocations", b"{}", **sent)[0] == 403
    assert waiting.call("GET", where, **sent)[0] == 405
    assert send({"labels": []}, content_type="text/csv")[0] == 415


def test_a_file_of_before_objects_were_taken_is_taken_over(tmp_path: Path) -> None:
    """Its requests are answered as they were accepted."""
    with sqlite3.connect(tmp_path / "w.db") as db:
        db.execute(
            "create table requests (id text primary key, endpoint text not null, principal text not null, "
            "state text not null, path text not null, headers text not null, body blob, size integer not null, "
            "queued_at integer not null, due_at integer not null, attempts integer not null default 0, "
            "status integer, answer_headers text, answer blob, expires_at integer not null) strict"
        )
        db.execute(
            "insert into requests values ('1', 'm', 'ana', 'running', 'invocations', '{}', x'7b7d', 2, 1, 1, 1, "
            "null, null, null, 9000000000000)"
        )
    db.close()
    store = WaitingStore(tmp_path / "w.db")
    taken = store.take("m")
    assert taken is not None and (taken.id, taken.body, taken.attempts) == ("1", b"{}", 2)
    assert taken.located is None and not taken.answered
    store.close()
