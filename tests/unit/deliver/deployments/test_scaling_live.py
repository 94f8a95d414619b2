"""Workers by load on a yard that is up: more under load, fewer after it, none when idle; no request is lost."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from modelyard.deliver.deployments import places
from tests.unit.deliver.deployments.house import FAST, House

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SCALED = """
[models.m]
task = "binary"
[models.m.serving]
timeout = "2m"
[models.m.serving.scale]
min = 0
max = 3
concurrency = 2
down_after = "2s"
idle = "4s"
"""


def test_workers_follow_the_load(yard: Callable[..., House]) -> None:
    house = yard(FAST + SCALED)
    house.patience_s = 180
    one = house.first()

    def told() -> dict[str, Any]:
        (found,) = house.endpoint()["workers"].values()
        return found

    def running() -> int:
        observed = json.loads((house.home / "serving" / "production" / "observed.json").read_text())
        return sum(worker["pid"] is not None for worker in observed["workers"].values())

    house.knob(one).write_text("slow")
    with house.flow(threads=8) as flow:
        house.wait(lambda: told()["ready"] == 3, "three workers that answer")
        assert f"v{one}: 3 of 0-3" in house.command("endpoints")
    assert flow.failed == {}, flow.failed

    house.knob(one).write_text("")
    with house.flow(threads=1, pause_s=0.05) as flow:
        house.wait(lambda: told() == {"ready": 1, "wanted": 1, "min": 0, "max": 3}, "one worker")
        house.wait(lambda: running() == 1, "the others to have ended")
    assert flow.failed == {}, flow.failed

    # idle: none; the first request wakes one and is answered, and so are those that come meanwhile
    house.wait(lambda: running() == 0, "no worker")
    house.wait(lambda: house.endpoint()["differences"] == [], "nothing to differ")
    assert f"v{one}: asleep, of 0-3" in house.command("endpoints")
    answers: list[tuple[int, str]] = []
    asking = [threading.Thread(target=lambda: answers.append(house.ask())) for _ in range(5)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(150)
    assert answers == [(200, str(one))] * 5

    # one that cannot be woken keeps nobody waiting, and answers again once it can start
    socket = places.worker_socket(house.home, house.endpoint()["deployments"]["live"]["id"])
    house.wait(lambda: running() == 0 and not socket.exists(), "no worker")
    (model,) = (house.home / "serving" / "production" / "models").glob("*/model.pkl")
    whole = model.read_bytes()
    model.unlink()
    model.write_bytes(b"damaged")
    assert house.ask() == (503, str(one))  # it waited for the attempts to start
    with house.flow(threads=2) as flow:
        house.wait(lambda: flow.total() >= 10, "ten answers")
    assert set(flow.seen) == {(str(one), 503)} and flow.slowest_s < 20  # not the two minutes of a request that waits
    assert f"v{one}'s worker cannot start" in house.command("endpoints")
    model.unlink()
    model.write_bytes(whole)
    house.wait(lambda: house.ask() == (200, str(one)), "it to answer again")

    # a rollout keeps both awake, and ends as ever
    with house.flow(threads=2) as flow:
        two = house.ship()
        house.wait_event("rollout.completed", version=two)
        house.wait(lambda: house.settled(two), "v2 to have the traffic")
    assert flow.failed == {}, flow.failed
