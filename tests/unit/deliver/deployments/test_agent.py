"""A machine that only serves: pulls what was approved, serves while the hub is gone, reports when it is back."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelyard.client.api import path
from modelyard.deliver.deployments import places
from modelyard.deliver.deployments.agent import Agent
from modelyard.domain.errors import Invalid
from modelyard.server.decoding import decoded
from tests.conftest import wait_until
from tests.unit.deliver.deployments.edge import Edge
from tests.unit.deliver.deployments.house import FAST, Flow, House

pytestmark = pytest.mark.timeout(280)


def test_a_far_machine_outlives_its_hub(yard: Callable[..., House], tmp_path: Path) -> None:
    house = yard(FAST.replace("canary", "all-at-once").replace('steps = ["50%"], ', ""))
    one = house.first()
    edge = Edge(house, tmp_path)
    try:
        wait_until(lambda: edge.serves(one), "v1 on the far machine", 120)
        two = house.ship()
        wait_until(lambda: edge.serves(two), "v2 on the far machine", 120)
        (seen,) = house.client().call("GET", path("agents"))["agents"]
        assert (seen["name"], seen["principal"], seen["environment"]) == ("edge-1", "edge", "production")

        port = house.note("server")["url"].rpartition(":")[2]
        house.stop()
        with Flow(edge.ask, threads=1) as flow:
            wait_until(lambda: flow.seen[str(two), 200] > 50, "answers without a hub")
            done = subprocess.run(
                [sys.executable, "-m", "modelyard", "rollback", "production/m", "--offline", "-m", "hub gone"],
                cwd=house.project,
                env={
                    **house.environment,
                    "MODELYARD_HOME": str(tmp_path / "agent"),
                    "MODELYARD_TOKEN": house.tokens["otto"],
                },
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            wait_until(lambda: edge.serves(one), "v1 again, without the hub")
            (house.project / "up.log").write_text("")
            house.start("--port", port)
            event = house.wait_event("rollback.completed", to=one)
            wait_until(lambda: house.settled(one), "the hub's own gateway to follow", 60)
        assert flow.failed == {} and event["actor"] == "otto" and event["data"]["reason"] == "hub gone"
        told = house.wait_event("agent.seen")
        assert told["data"]["operations"] == [event["data"]["operation"]]
        assert edge.serves(one)
    finally:
        edge.stop()


def test_an_agent_needs_the_role_of_an_endpoint(yard: Callable[..., House]) -> None:
    from modelyard.domain.errors import Forbidden

    house = yard()
    for name in ("ana", "boris", "otto"):
        with pytest.raises(Forbidden):
            house.client(name).call("GET", path("environments", "production", "placement"))


class EarlierReport(msgspec.Struct, forbid_unknown_fields=True):
    """What hubs took before agents told why a version cannot be prepared."""

    workers: dict[str, Any] = {}


class EarlierHub:
    """The part of a hub that takes reports, as an earlier release has it."""

    def __init__(self) -> None:
        self.heard: list[EarlierReport] = []

    def report(self, said: dict[str, Any]) -> list[str]:
        self.heard.append(decoded(msgspec.json.encode(said), EarlierReport))
        return ["one"]


def test_an_earlier_hub_is_told_what_it_knows(tmp_path: Path) -> None:
    hub = EarlierHub()
    agent = Agent(hub, tmp_path, "production")  # type: ignore[arg-type]
    said = {"workers": {"w": {"pid": 1}}}
    assert agent._report(said, {"unready": {}}) == ["one"]
    assert agent._report(said, {"unready": {"d": "No solution found"}}) == ["one"]
    assert hub.heard == [EarlierReport(said["workers"])] * 2
    with pytest.raises(Invalid):
        agent._report({"strange": 1}, {})


def test_the_last_words_of_a_worker_that_ended_are_told(tmp_path: Path) -> None:
    agent = Agent(EarlierHub(), tmp_path, "production")  # type: ignore[arg-type]
    ended, runs = {"pid": None, "restarts": 2, "deaths": 3, "last_exit": 1}, {"pid": 7, "restarts": 0}
    folder = places.serving(tmp_path, "production")
    folder.mkdir(parents=True)
    (folder / "observed.json").write_text(json.dumps({"workers": {"w-1": ended, "w-2": runs}, "time": 0}))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "worker-w-1.log").write_text("started\nm v1 cannot be served: no xgboost here\n")
    assert agent._workers() == {"w-1": ended | {"words": "m v1 cannot be served: no xgboost here"}, "w-2": runs}
