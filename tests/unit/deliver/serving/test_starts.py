"""A worker that cannot start keeps nobody waiting; one that is on its way is waited for."""

import threading
import time
from pathlib import Path

from modelyard.deliver.deployments import running
from tests.conftest import wait_until
from tests.unit.deliver.serving.conftest import Plane, odd_model

LIMITS = {"timeout_s": 1.0}


def ended(plane: Plane, name: str, times: int) -> None:
    """Have the supervisor's file say that a worker ended so often at once."""
    told = {"pid": None, "restarts": times, "deaths": times, "last_exit": 1}
    running.tell(plane.folder, {Path(plane.socket(name)).stem: told})


def test_a_version_that_cannot_start_is_503_at_once_and_answers_once_it_can(plane: Plane, odd: Path):
    plane.route(plane.target("v1"), limits=LIMITS)
    plane.gateway()
    assert plane.x(1.0)[0] == 504  # who runs workers said nothing: it may be on its way
    ended(plane, "v1", 2)
    assert plane.x(1.0)[0] == 504  # it is started again
    ended(plane, "v1", 3)
    wait_until(lambda: plane.x(1.0)[0] == 503, "the gateway to hear of it")
    plane.reroute(plane.target("v1"), limits={"timeout_s": 60.0})
    started = time.monotonic()
    status, headers, answer = plane.x(1.0)
    assert status == 503 and "cannot start" in answer["message"] and headers["retry-after"] == "5"
    assert headers["x-modelyard-version"] == "1" and time.monotonic() - started < 20  # it could have waited for 60
    assert plane.call("GET", "/endpoints/m/ping")[0] == 503

    plane.worker("v1", odd)
    wait_until(lambda: plane.x(1.0)[0] == 200, "the worker to be found")


def test_who_waits_for_it_is_told_too(plane: Plane):
    plane.route(plane.target("v1"), limits={"timeout_s": 60.0})
    plane.gateway()
    found: list[int] = []
    asking = threading.Thread(target=lambda: found.append(plane.x(1.0, timeout=70)[0]))
    asking.start()
    wait_until(lambda: plane.stats()["endpoints"]["m"]["deployments"]["v1"]["retries"] == 1, "the request to wait")
    ended(plane, "v1", 3)
    asking.join(60)
    assert found == [503]


def test_versions_beside_it_have_its_share_until_it_starts(plane: Plane, odd: Path, tmp_path: Path, gate: Path):
    plane.worker("v1", odd)
    plane.route(plane.target("v1", 0.5), plane.target("v2", 0.5, 2), limits={"timeout_s": 60.0})
    plane.gateway()
    found: list[tuple[int, str]] = []

    def ask() -> None:
        status, headers, _ = plane.x(1.0, timeout=70)
        found.append((status, headers["x-modelyard-version"]))

    asking = [threading.Thread(target=ask) for _ in range(6)]
    for thread in asking:
        thread.start()
    wait_until(lambda: plane.counted("v2")["retries"] == 3, "three to wait for v2")
    ended(plane, "v2", 3)
    for thread in asking:
        thread.join(60)
    assert found == [(200, "1")] * 6
    assert {plane.x(1.0)[1]["x-modelyard-version"] for _ in range(10)} == {"1"}
    assert plane.x(1.0, x_modelyard_version="2")[0] == 503  # who names it gets no other
    assert plane.counted("v2")["errors"] == 1 and plane.call("GET", "/v2/health/ready")[0] == 200

    plane.worker("v2", odd_model(tmp_path / "two", gate, 10.0), 2)
    wait_until(lambda: plane.x(1.0)[1]["x-modelyard-version"] == "2", "its share to be its own again")


def test_one_that_ends_over_what_it_is_asked_is_waited_for(plane: Plane, odd: Path):
    """It was connected to, so it does start: others' requests wait for its next life."""
    process = plane.worker("v1", odd)
    plane.route(plane.target("v1"), limits=LIMITS)
    plane.gateway()
    wait_until(lambda: plane.x(1.0)[0] == 200, "the first prediction")
    ended(plane, "v1", 3)
    process.kill()
    process.wait(10)
    assert plane.x(1.0)[0] == 504
    ended(plane, "v1", 6)  # since then it does not
    wait_until(lambda: plane.x(1.0)[0] == 503, "the gateway to hear of it")
