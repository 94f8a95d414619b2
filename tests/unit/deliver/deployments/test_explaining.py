"""Why what runs is not what is wanted, as `modelyard endpoints` says it of a yard that is up."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from modelyard.deliver.deployments import explaining, places, running
from modelyard.deliver.serving import probe
from modelyard.domain.project import parse_project
from tests.unit.deliver.deployments.house import FAST, House

TWO = """
[models.m]
task = "regression"
[models.m.serving]
workers = 2
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_further_worker_that_cannot_start_is_told_while_the_first_answers(yard: Callable[..., House]) -> None:
    house = yard(FAST + TWO)
    one = house.first()
    second = str(places.worker_socket(house.home, house.endpoint()["deployments"]["live"]["id"], 1))
    house.wait(lambda: house.endpoint()["differences"] == [], "two workers")
    runs = asyncio.run(probe.ask(second))
    assert runs is not None, "nothing differs before the second worker answers"

    (model,) = (house.home / "serving" / "production" / "models").glob("*/model.pkl")
    whole = model.read_bytes()
    model.unlink()
    model.write_bytes(b"damaged")
    with house.flow() as flow:
        os.kill(runs["pid"], signal.SIGKILL)
        said = f"the live v{one}'s worker 2 of 2 cannot start, so the others have its requests: it ended "
        house.wait(lambda: said in house.command("endpoints"), "the second worker to be told of")
        model.unlink()
        model.write_bytes(whole)
        house.wait(lambda: house.endpoint()["differences"] == [], "two workers again")
    assert flow.failed == {} and asyncio.run(probe.ask(second)) is not None


@pytest.mark.parametrize(
    ("restarts", "deaths", "said"),
    [
        (0, 0, "is loading its model"),
        (0, 1, "is loading its model again: it ended 1 time(s), last with -9; see logs/worker-{worker}.log"),
        (1, 2, "ended 2 time(s), last with -9; see logs/worker-{worker}.log"),
    ],
)
def test_a_worker_that_loads_again_is_said_to_have_ended(
    tmp_path: Path, restarts: int, deaths: int, said: str
) -> None:
    worker = places.worker_id("d" * 32)
    folder = places.serving(tmp_path, "production")
    folder.mkdir(parents=True)
    told = {"pid": None, "restarts": restarts, "deaths": deaths, "last_exit": -9 if deaths else None}
    running.tell(folder, {worker: told})
    live = {"id": "d" * 32, "version": 7}
    shown = {"environment": "production", "name": "m", "deployments": {"live": live}, "agents": [], "rollout": None}
    found = asyncio.run(explaining.differences(tmp_path, parse_project('[project]\nname = "p"\n'), shown, None))
    assert found[-1] == f"the live v7's worker {said.format(worker=worker)}"
