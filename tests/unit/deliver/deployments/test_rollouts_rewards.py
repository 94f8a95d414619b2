"""An A/B test and a bandit decide by rewards that come as ground truth, under real traffic."""

import http.client
import json
from collections.abc import Callable
from typing import Any

import pytest

from modelyard.client.api import path
from modelyard.domain.errors import ModelyardError
from tests.unit.deliver.deployments.house import FAST, Flow, House
from tests.unit.deliver.deployments.prometheus import Answer, prometheus, vector

Yard = Callable[..., House]
# as soon as one is better it is decided; three bake times is how long a slow machine has for enough rewards
REWARDED = """
[project]
name = "tests"

[environments.ab]
rollout = { strategy = "ab-test", share = "50%", bake = "1m", min_requests = 20, reward = "label" }

[environments.bandit]
rollout = { strategy = "bandit", share = "20%", bake = "1m", min_requests = 20, reward = "label" }
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
            labels: list[Any] = [{"id": answer.getheader("x-prediction-id"), "label": truth}]
            where = path("environments", place, "endpoints", "m", "ground-truth")
            try:
                house.client("otto").call("POST", where, body={"labels": labels})
            except ModelyardError as error:
                raise OSError(str(error)) from error
            return answer.status, version
        finally:
            connection.close()

    return ask


def serving(house: House, place: str) -> int:
    """The first version, which answers there."""
    one = house.register()
    house.approve(one, place)
    house.wait(lambda: house.ask(environment=place)[1] == str(one), "v1 to answer")
    return one


@pytest.mark.slow
@pytest.mark.parametrize("place", ["ab", "bandit"])
def test_rewards_decide(yard: Yard, place: str) -> None:
    house = yard(REWARDED)
    one = serving(house, place)

    two = house.register()
    house.approve(two, place)
    with Flow(rewarded(house, place, {str(one): 0.2, str(two): 0.8})) as flow:
        house.wait_event("rollout.completed", version=two, environment=place)
    assert flow.failed == {} and flow.answered >= {str(two)}
    assert "reward" in house.command("audit", "--types", "rollout.completed", "-n", "1")
    steps = house.events("rollout.step", version=two, environment=place)
    assert not any("needed" in (step["data"]["reason"] or "") for step in steps), "no share follows too few rewards"

    three = house.register()
    house.approve(three, place)
    with Flow(rewarded(house, place, {str(two): 0.8, str(three): 0.2})) as flow:
        aborted = house.wait_event("rollout.aborted", version=three, environment=place)
    assert "reward" in aborted["data"]["reason"] and flow.failed == {}
    house.wait(lambda: house.ask(environment=place) == (200, str(two)), "v2 to have the traffic")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["ab", "bandit"])
def test_rewards_widen_nothing_in_a_freeze(yard: Yard, place: str) -> None:
    house = yard(REWARDED)
    one = serving(house, place)
    two = house.register()
    house.approve(two, place)
    began = house.wait_event("rollout.step", version=two, environment=place)["data"]["share"]

    freeze = 'freeze = ["2000-01-01 - 2999-12-31"]'
    frozen = REWARDED.replace(f"[environments.{place}]", f"[environments.{place}]\n{freeze}")
    (house.project / "modelyard.toml").write_text(frozen)
    house.command("reload", name="owner")
    with Flow(rewarded(house, place, {str(one): 0.2, str(two): 0.8})):
        house.wait(lambda: "frozen until" in (house.endpoint(place)["rollout"]["reason"] or ""), "to be held")
        shares = [step["data"]["share"] for step in house.events("rollout.step", version=two, environment=place)]
        assert max(shares) == began and house.endpoint(place)["rollout"]["share"] <= began
        (house.project / "modelyard.toml").write_text(REWARDED)
        house.command("reload", name="owner")
        house.wait_event("rollout.completed", version=two, environment=place)


@pytest.mark.slow
def test_a_business_metric_takes_a_canary_back(yard: Yard) -> None:
    """It answers well, fast and as the champion does; only what its answers are worth is less."""
    house = yard(
        FAST.replace('bake = "2s", min_requests = 10,', 'bake = "8s", min_requests = 10, reward = "label",').replace(
            "abort_if = { error_rate = 0.05 }", "abort_if = { reward_below_champion = 0.1 }"
        )
    )
    one, two = house.first(), house.ship()
    with Flow(rewarded(house, "production", {str(one): 0.8, str(two): 0.2})) as flow:
        aborted = house.wait_event("rollout.aborted", version=two)
    assert "against the champion's" in aborted["data"]["reason"] and flow.failed == {}
    three = house.ship()
    with Flow(rewarded(house, "production", {str(one): 0.8, str(three): 0.8})) as flow:
        house.wait_event("rollout.completed", version=three)
    assert flow.failed == {}


@pytest.mark.slow
def test_a_query_to_prometheus_takes_a_canary_back(yard: Yard) -> None:
    """The query names the version; while its server is gone nothing is guessed, the rollout pauses and asks."""
    down: list[bool] = []
    bad: set[str] = set()

    def answer(query: str) -> Answer:
        return (503, {}) if down else vector(0.9 if any(f'version="{v}"' in query for v in bad) else 0.1)

    with prometheus(answer) as url:
        asked = f'prometheus = {{ url = "{url}", query = \'complaints{{version="{{version}}"}}\', max = 0.5 }}'
        house = yard(FAST.replace("error_rate = 0.05", asked))
        house.first()
        bad.add("2")
        with house.flow() as flow:
            two = house.ship()
            aborted = house.wait_event("rollout.aborted", version=two)
            three = house.ship()
            house.wait_event("rollout.completed", version=three)
            down.append(True)
            four = house.ship()
            paused = house.wait_event("rollout.paused", version=four)
    assert "the Prometheus query gives 0.9, the limit is 0.5" in aborted["data"]["reason"]
    assert "cannot be measured" in paused["data"]["reason"] and "503" in paused["data"]["reason"]
    assert flow.failed == {}
