"""An A/B test and a bandit decide by rewards that come as ground truth, under real traffic."""

import http.client
import json
from collections.abc import Callable
from typing import Any

import pytest

from modelyard.client.api import path
from modelyard.domain.errors import ModelyardError
from tests.unit.deliver.deployments.house import Flow, House

Yard = Callable[..., House]
REWARDED = """
[project]
name = "tests"

[environments.ab]
rollout = { strategy = "ab-test", share = "50%", bake = "2s", min_requests = 20, reward = "label" }

[environments.bandit]
rollout = { strategy = "bandit", share = "20%", bake = "2s", min_requests = 20, reward = "label" }
"""


def rewarded(house: House, place: str, worth: dict[str, float]) -> Callable[[], tuple[int, str]]:
    """Asks once and tells the truth of the answer: what its version is worth, and a little of chance."""
    turn = iter(range(10**9))

    def ask() -> tuple[int, str]:
        url = house.note(f"gateway-{place}")["url"]
        connection = http.client.HTTPConnection(url.partition("://")[2], timeout=60)
        headers = {"authorization": f"Bearer {house.tokens['otto']}", "content-type": "application/json"}
        try:
            connection.request("POST", "/endpoints/m/invocations", json.dumps({"inputs": {"x": [1.0]}}), headers)
            answer = connection.getresponse()
            answer.read()
            version = answer.getheader("x-modelyard-version") or ""
            truth = worth.get(version, 0.0) + 0.1 * (next(turn) % 3)
            labels: list[Any] = [{"id": f"{answer.getheader('x-prediction-id')}:0", "label": truth}]
            where = path("environments", place, "endpoints", "m", "ground-truth")
            try:
                house.client("otto").call("POST", where, body={"labels": labels})
            except ModelyardError as error:
                raise OSError(str(error)) from error
            return answer.status, version
        finally:
            connection.close()

    return ask


@pytest.mark.heavy
@pytest.mark.slow
@pytest.mark.parametrize("place", ["ab", "bandit"])
def test_rewards_decide(yard: Yard, place: str) -> None:
    house = yard(REWARDED)
    one = house.register()
    house.approve(one, place)
    house.wait(lambda: house.ask(environment=place)[1] == str(one), "v1 to answer")

    two = house.register()
    house.approve(two, place)
    with Flow(rewarded(house, place, {str(one): 0.2, str(two): 0.8})) as flow:
        house.wait_event("rollout.completed", version=two, environment=place)
    assert flow.failed == {} and flow.answered >= {str(two)}

    three = house.register()
    house.approve(three, place)
    with Flow(rewarded(house, place, {str(two): 0.8, str(three): 0.2})) as flow:
        aborted = house.wait_event("rollout.aborted", version=three, environment=place)
    assert "reward" in aborted["data"]["reason"] and flow.failed == {}
    house.wait(lambda: house.ask(environment=place) == (200, str(two)), "v2 to have the traffic", 2)
