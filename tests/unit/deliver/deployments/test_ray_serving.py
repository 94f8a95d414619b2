"""Workers on the nodes of a real Ray cluster: replicas, protocols, rollouts, scaling; nodes and keepers that die."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.ray_cluster import RayCluster
from tests.unit.deliver.deployments.house import FAST, House

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]
ON_RAY = """target = "ray"
ray = "{address}"
rollout ="""
REPLICAS = """
[models.m]
task = "binary"
[models.m.serving]
timeout = "1m"
cpus = 0.2
"""
KEEPER = "modelyard.deliver.deployments.ray_keeper"


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    made = RayCluster()
    yield made
    made.stop()


@pytest.fixture
def far_yard(cluster: RayCluster, yard: Callable[..., House]) -> Callable[[str], House]:
    def make(serving: str) -> House:
        project = FAST.replace("rollout =", ON_RAY.format(address=cluster.address), 1)
        house = yard(project + REPLICAS + serving)
        house.patience_s = 180
        return house

    return make


def workers(house: House) -> dict[str, Any]:
    return json.loads((house.home / "serving/production/observed.json").read_text())["workers"]


def nodes(house: House) -> list[str]:
    """Of the workers that run."""
    return [worker["node"] for worker in workers(house).values() if worker["pid"] is not None]


def get(house: House, rest: str, body: Any = None) -> Any:
    url = house.note("gateway-production")["url"] + f"/endpoints/m/{rest}"
    headers = {"authorization": f"Bearer {house.tokens['otto']}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
        return json.loads(answer.read() or b"null")


def test_a_node_is_killed_under_load_and_no_request_fails(
    cluster: RayCluster, far_yard: Callable[[str], House]
) -> None:
    house = far_yard("workers = 2\n")
    one = house.first()
    house.wait(lambda: len(nodes(house)) == 2, "two workers")
    assert len(set(nodes(house))) == 2, "they are on two nodes"

    tensor = {"name": "x", "shape": [2], "datatype": "FP64", "data": [1.0, 2.0]}
    assert get(house, "invocations", {"inputs": {"x": [2.0]}}) == {"predictions": [2.0]}
    assert get(house, "v2/models/m/infer", {"inputs": [tensor]})["outputs"][0]["data"] == [1.0, 2.0]
    assert get(house, "v2/models/m")["inputs"][0]["name"] == "x"
    assert get(house, "openapi.json")["openapi"].startswith("3.")

    cluster.tell("add")
    lost = nodes(house)[0]
    with house.flow(threads=4) as flow:
        house.wait(lambda: flow.total() > 200, "traffic")
        began = time.monotonic()
        cluster.tell(f"kill {lost}")
        house.wait(lambda: len(nodes(house)) == 2 and lost not in nodes(house), "a worker on another node")
        restored = time.monotonic() - began
        asked = flow.total()
        house.wait(lambda: flow.total() > asked + 200, "traffic afterwards")
    assert flow.failed == {}, flow.failed
    print(f"{flow.total()} requests, 0 failed, slowest {flow.slowest_s:.2f} s, replaced after {restored:.1f} s")
    assert all(worker["deaths"] == 0 for worker in workers(house).values()), "a node's end is not its version's"
    assert house.ask() == (200, str(one))


def test_a_keeper_is_killed_and_finds_its_workers_again(far_yard: Callable[[str], House]) -> None:
    house = far_yard("workers = 2\n")
    house.first()
    house.wait(lambda: len(nodes(house)) == 2, "two workers")
    before, keeper = workers(house), house.pid_of(KEEPER)
    assert keeper is not None
    with house.flow(threads=2) as flow:
        os.kill(keeper, signal.SIGKILL)
        house.wait(lambda: house.pid_of(KEEPER) not in (None, keeper), "another keeper")
        dead = workers(house)[next(iter(before))]["pid"]
        os.kill(dead, signal.SIGKILL)
        house.wait(lambda: dead not in [w["pid"] for w in workers(house).values()], "the dead worker to be seen")
        house.wait(lambda: len(nodes(house)) == 2, "another worker")
    assert flow.failed == {}, flow.failed
    after = workers(house)
    kept = [name for name in before if before[name]["pid"] == after[name]["pid"]]
    assert len(kept) == 1, "the worker that lived was left alone"


def test_a_canary_a_rollback_and_workers_by_load(far_yard: Callable[[str], House]) -> None:
    scale = '[models.m.serving.scale]\nmin = 1\nmax = 3\nconcurrency = 2\ndown_after = "2s"\n'
    house = far_yard(scale)
    one = house.first()
    with house.flow(threads=3) as flow:
        two = house.ship()
        house.wait_event("rollout.completed", version=two)
        house.wait(lambda: house.settled(two), "v2 to have the traffic")
    assert flow.failed == {} and flow.answered == {str(one), str(two)}, flow.failed

    with house.flow(threads=2) as flow:
        house.command("rollback", "production/m", "-m", "tests")
        house.wait(lambda: house.settled(one), "v1 to have the traffic")
    assert flow.failed == {}, flow.failed

    house.knob(one).write_text("slow")
    with house.flow(threads=8) as flow:
        house.wait(lambda: max(told["ready"] for told in house.endpoint()["workers"].values()) == 3, "three workers")
    house.knob(one).write_text("")
    assert flow.failed == {}, flow.failed
    house.wait(lambda: max(told["ready"] for told in house.endpoint()["workers"].values()) == 1, "one worker each")
    house.wait(lambda: len(nodes(house)) == len(house.endpoint()["workers"]), "the others to have ended")


def test_what_keeps_workers_from_running_is_told(cluster: RayCluster, yard: Callable[..., House]) -> None:
    project = FAST.replace("rollout =", ON_RAY.format(address="127.0.0.1:1"), 1)
    house = yard(project + REPLICAS)
    house.ship()

    def differences() -> str:
        return " ".join(house.endpoint()["differences"])

    house.wait(lambda: "Ray at 127.0.0.1:1 cannot be used: Connection refused" in differences(), "the reason")
