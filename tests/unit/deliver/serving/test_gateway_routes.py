"""Where the gateway sends a request, and what it does when a worker fails it."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.unit.deliver.serving.conftest import Plane, odd_model


@pytest.fixture
def two(plane: Plane, tmp_path: Path, gate: Path) -> Plane:
    """Versions 1 (factor 1) and 2 (factor 10)."""
    for number, factor in ((1, 1.0), (2, 10.0)):
        folder = odd_model(tmp_path / f"m{number}", gate, factor)
        plane.launch_worker(f"v{number}", plane.spec(f"v{number}", folder, number))
    for name in ("v1", "v2"):
        plane.ready(name)
    return plane


def test_keys_versions_and_rules_choose_the_deployment(two: Plane):
    routes = (two.target("v1", 0.5), two.target("v2", 0.5, 2))
    endpoint = {"model": "m", "routes": routes, "sticky": "x-user"}
    rules = [{"header": "X-Group", "value": "beta", "deployment": "v2"}]
    two.route_endpoints({"m": {**endpoint, "rules": rules}})
    two.gateway()
    by_user = {user: {two.x(1.0, x_user=user)[1]["x-modelyard-version"] for _ in range(3)} for user in "abcdefghij"}
    assert all(len(found) == 1 for found in by_user.values())
    assert {next(iter(found)) for found in by_user.values()} == {"1", "2"}
    assert {two.x(1.0, x_group="beta")[1]["x-modelyard-version"] for _ in range(4)} == {"2"}
    assert two.x(1.0, x_modelyard_version="1")[2] == {"predictions": [1.0]}
    assert two.x(1.0, x_modelyard_version="7")[0] == 404
    tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}
    body = json.dumps({"inputs": [tensor]}).encode()
    status, headers, answer = two.call("POST", "/v2/models/m/versions/2/infer", body)
    assert status == 200 and headers["x-modelyard-version"] == "2" and json.loads(answer)["model_version"] == "2"
    assert two.call("POST", "/v2/models/m/versions/3/infer", body)[0] == 404
    status, _, answer = two.call("POST", "/v1/models/m:predict", b'{"instances": [{"x": 2.0}]}')
    assert status == 200 and json.loads(answer)["predictions"] in ([2.0], [20.0])
    index = json.loads(two.call("POST", "/v2/repository/index")[2])
    assert {(item["name"], item["version"], item["state"]) for item in index} == {
        ("m", "1", "READY"),
        ("m", "2", "READY"),
    }
    assert two.call("GET", "/v2/health/ready")[0] == 200


def test_who_asks_for_readiness_first_takes_no_turn_of_the_traffic(two: Plane):
    """As Open Inference clients do before each request."""
    two.route(two.target("v1", 0.5), two.target("v2", 0.5, 2))
    two.gateway()
    answered = set[str]()
    for _ in range(4):
        assert two.call("GET", "/v2/models/m/ready")[0] == two.call("GET", "/v2/models/m")[0] == 200
        assert two.call("GET", "/v2/models/m/versions/2/ready")[0] == 200
        answered.add(two.x(1.0)[1]["x-modelyard-version"])
    assert answered == {"1", "2"}
    status, _, answer = two.call("POST", "/v2/repository/models/m/load", b"{}")
    assert status == 400 and "by deploying them" in json.loads(answer)["error"]


def test_a_request_that_ends_its_workers_is_not_given_to_a_third(plane: Plane, odd: Path, gate: Path):
    sockets = [plane.socket(name) for name in ("a", "b", "c")]
    for name in ("a", "b", "c"):
        plane.launch_worker(name, plane.spec(name, odd))
    for name in ("a", "b", "c"):
        plane.ready(name)
    plane.route(plane.target("v1", sockets=sockets))
    plane.gateway()
    status, _, answer = plane.x(-2.0)
    assert status == 502 and "were lost over it" in answer["message"]
    assert Path(f"{gate}.deaths").read_text() == "xx"
    assert plane.x(1.0)[2] == {"predictions": [2.0]}


def test_requests_wait_for_a_worker_that_is_started_again(plane: Plane, odd: Path):
    process = plane.worker("v1", odd)
    plane.route(plane.target("v1"))
    plane.gateway()
    assert plane.x(1.0)[0] == 200
    process.kill()
    process.wait(10)
    found: list[int] = []
    asking = [threading.Thread(target=lambda: found.append(plane.x(1.0, timeout=60)[0])) for _ in range(8)]
    for thread in asking:
        thread.start()
    plane.worker("v1", odd)
    for thread in asking:
        thread.join(60)
    assert found == [200] * 8


def test_a_worker_that_hangs_is_closed_off_and_tried_again(plane: Plane, odd: Path):
    process = plane.worker("v1", odd)
    limits = {"timeout_s": 1.0, "breaker_failures": 2, "breaker_open_s": 5.0}
    plane.route(plane.target("v1"), limits=limits)
    plane.gateway()
    wait_until(lambda: plane.x(1.0)[0] == 200, "the first prediction")
    os.kill(process.pid, signal.SIGSTOP)
    assert [plane.x(1.0)[0] for _ in range(3)] == [504, 504, 503]
    assert plane.counted("v1")["circuits"] == 1
    os.kill(process.pid, signal.SIGCONT)
    wait_until(lambda: plane.x(1.0)[0] == 200, "the circuit to close")
    assert plane.x(1.0)[0] == 200


def test_the_page_is_shown_to_a_browser_that_sends_its_token_as_a_password(two: Plane):
    two.route(two.target("v1"))
    two.gateway()
    status, headers, _ = two.call("GET", "/endpoints/m/docs", authorization="")
    assert status == 401 and headers["www-authenticate"].startswith("Basic")
    status, headers, page = two.call("GET", "/endpoints/m/docs")
    assert (
        status == 200
        and b'<input name="x" data-type="double"' in page
        and "sha256" in headers["content-security-policy"]
    )
    link = {"sec_fetch_site": "same-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert two.call("GET", "/endpoints/m/docs", **link)[0] == 200
    assert two.call("GET", "/endpoints/m/docs", **{**link, "sec_fetch_dest": "iframe"})[0] == 403
    assert two.call("POST", "/endpoints/m/predict", b"[]", **link)[0] == 403
    own = f"127.0.0.1:{two.port}"
    body = b'[{"x": 3}]'
    fetched = {"host": own, "origin": f"http://{own}", "sec_fetch_site": "same-origin"}
    typed = {"content_type": "application/json", **fetched}
    assert json.loads(two.call("POST", "/endpoints/m/predict", body, **typed)[2]) == {"predictions": [3.0]}
    assert two.call("POST", "/endpoints/m/predict", body, **{**typed, "origin": "http://evil.example"})[0] == 403
