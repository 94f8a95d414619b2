"""Why what runs is not what is wanted, as `modelyard endpoints` says it of a yard that is up."""

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from modelyard.deliver.deployments import places
from modelyard.deliver.serving import probe
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
