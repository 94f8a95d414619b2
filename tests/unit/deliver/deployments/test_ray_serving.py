"""Workers on the nodes of a real Ray cluster: replicas, protocols, rollouts, scaling; nodes and keepers that die."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.deliver.deployments import measuring
from tests.conftest import wait_until
from tests.ray_cluster import RayCluster
from tests.unit.deliver.deployments.edge import Edge
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


@pytest.fixture
def far_yard(cluster: RayCluster, yard: Callable[..., House]) -> Callable[[str], House]:
    def make(serving: str) -> House:
        project = FAST.replace("rollout =", ON_RAY.format(address=cluster.address), 1)
        house = yard(project + REPLICAS + serving)
        house.patience_s = 180
        return house

    return make


def workers(house: House) -> dict[str, Any]:
    return measuring.workers(house.home, "production")


def nodes(house: House) -> list[str]:
    """Of the workers that run on the cluster."""
    return [worker["node"] for worker in workers(house).values() if worker["pid"] is not None and "node" in worker]


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
        dead = before[next(iter(before))]["pid"]
        os.kill(dead, signal.SIGKILL)

        def replaced() -> bool:
            pids = {worker["pid"] for worker in workers(house).values()}
            return len(nodes(house)) == 2 and dead not in pids

        house.wait(replaced, "another worker, the dead one seen")
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


FORGOTTEN = """
import json, sys, time
from pathlib import Path
from modelyard.deliver.deployments.ray_worker import RayWorker
from modelyard.kit import ray_cluster
from tests.unit.deliver.serving.conftest import manifest, numeric_model

ray = ray_cluster.join(sys.argv[1], namespace="forgotten")
folder = Path(sys.argv[2])
numeric_model(folder)
names = manifest(folder)
spec = {"id": "w", "deployment": "d", "model": "m", "version": 1, "digest": "", "model_dir": "", "socket": ""}
files = {name: (folder / name).read_bytes() for name in names}
options = {"name": "w", "lifetime": "detached", "num_cpus": 0.1, "max_concurrency": 16}
actor = ray.remote(RayWorker).options(**options).remote(forgotten_s=3.0)
place = ray.get(actor.start.remote(json.dumps(spec | {"manifest": names}).encode(), files, None))
print("RUNS", place.pid, flush=True)
time.sleep(1)
try:
    ray.get([actor.wait.remote(), actor.hear.remote()])
    time.sleep(5)
    ray.get(actor.hear.remote())
except ray.exceptions.RayError as error:
    print("GONE", flush=True)
"""


def test_a_worker_that_nobody_keeps_ends(cluster: RayCluster, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORGOTTEN, cluster.address, str(tmp_path / "m")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert "GONE" in done.stdout, done.stderr
    pid = int(done.stdout.split()[1])
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "its process to have ended")


def test_what_keeps_workers_from_running_is_told(cluster: RayCluster, yard: Callable[..., House]) -> None:
    project = FAST.replace("rollout =", ON_RAY.format(address="127.0.0.1:1"), 1)
    house = yard(project + REPLICAS)
    house.ship()

    def differences() -> str:
        return " ".join(house.endpoint()["differences"])

    house.wait(lambda: "Ray at 127.0.0.1:1 cannot be used: Connection refused" in differences(), "the reason")
    text = (house.project / "modelyard.toml").read_text().replace("127.0.0.1:1", cluster.address)
    (house.project / "modelyard.toml").write_text(text.replace("cpus = 0.2", "cpus = 64"))
    house.stop()
    (house.home / "serving/production/desired.json").unlink()  # what was wanted before would be started first
    (house.project / "up.log").write_text("")
    house.start()
    said = "no node of the Ray cluster took it yet; it asks for 64 CPU"
    house.wait(lambda: said in differences(), "what it asks for")


def test_an_endpoint_moves_to_the_cluster_and_back_and_no_request_fails(
    cluster: RayCluster, yard: Callable[..., House]
) -> None:
    """By deployments.toml, in an environment of this machine; on the cluster what a worker takes changes too."""
    house = yard(FAST + REPLICAS)
    house.patience_s = 180
    one = house.first()
    file = house.project / "deployments.toml"

    def declared(rest: str) -> str:
        file.write_text(f"[production.m]\nversion = {one}\n{rest}")
        return house.command("apply", "--yes")

    with house.flow(threads=3) as flow:
        shown = declared(f'target = "ray"\nray = "{cluster.address}"\nmemory_mb = 900\n')
        assert "    target: as the environment's\n          -> ray\n" in shown and f"-> {cluster.address}\n" in shown
        house.wait(lambda: nodes(house) and house.endpoint()["differences"] == [], "a worker on the cluster")
        assert KEEPER in Path(f"/proc/{house.pid_of(KEEPER)}/cmdline").read_text()
        before = workers(house)
        declared(f'target = "ray"\nray = "{cluster.address}"\nmemory_mb = 1000\nworkers = 2\n')
        house.wait(lambda: len(nodes(house)) == 2, "two workers there")
        house.wait(lambda: workers(house).keys() > before.keys(), "them to be told of")
        (name,) = before
        house.wait(lambda: workers(house)[name]["pid"] != before[name]["pid"], "the first to be replaced")
        declared("")
        house.wait(lambda: not nodes(house) and house.pid_of(KEEPER) is None, "everything to be here again")
        house.wait(lambda: house.endpoint()["differences"] == [], "nothing to differ")
    assert flow.failed == {} and flow.answered == {str(one)}, flow.failed
    print(f"{flow.total()} requests, slowest {flow.slowest_s:.2f} s")


def test_a_further_front_has_workers_of_its_own(
    cluster: RayCluster, yard: Callable[..., House], tmp_path: Path
) -> None:
    house = yard(FAST.replace("canary", "all-at-once").replace('steps = ["50%"], ', "") + REPLICAS)
    one = house.first()
    edge = Edge(house, tmp_path, "--ray", cluster.address)
    try:
        wait_until(lambda: edge.serves(one), "v1 at the further front", 120)
        told = tmp_path / "agent"
        wait_until(lambda: "node" in str(measuring.workers(told, "production")), "its worker to be told of")
        two = house.ship()
        wait_until(lambda: edge.serves(two), "v2 at the further front", 120)
    finally:
        edge.stop()
