"""What Prometheus answers, as a verdict; what far machines' gateways counted, in the figures of a step."""

import asyncio
from typing import Any

import pytest

from modelyard.deliver.deployments import measuring
from modelyard.deliver.deployments.measuring import Traffic, Unmeasured
from modelyard.deliver.serving.stats import Counters
from modelyard.domain.environments import Prometheus
from tests.unit.deliver.deployments.prometheus import Answer, prometheus, scalar, vector


def asked(answer: Answer, query: str = "up") -> tuple[float | None, list[str]]:
    """(the value, the queries that arrived)."""
    seen: list[str] = []

    def said(text: str) -> Answer:
        seen.append(text)
        return answer

    with prometheus(said) as url:
        named = {"endpoint": "m", "version": "3", "deployment": "d3"}
        return asyncio.run(measuring.ask_prometheus(Prometheus(url=url + "/", query=query, max=1), **named)), seen


@pytest.mark.parametrize(
    ("answer", "value"), [(vector(0.25), 0.25), (vector(0.5, 3, 1), 3.0), (scalar(7), 7.0), (vector(), None)]
)
def test_the_value_is_the_largest_of_what_matches(answer: Answer, value: float | None) -> None:
    assert asked(answer)[0] == value


def test_the_deployment_is_filled_in() -> None:
    query = 'rate(errors{v="{version}", e="{endpoint}", d="{deployment}"}[1m])'
    assert asked(vector(1), query)[1] == ['rate(errors{v="3", e="m", d="d3"}[1m])']


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((503, {}), "answered 503"),
        ((200, {"status": "success"}), "cannot be asked"),
        ((200, {"data": {"result": [{"metric": {}}]}}), "not a number"),
        ((200, {"data": {"result": ["NaN?", "x"]}}), "not a number"),
    ],
)
def test_an_answer_that_is_none_is_no_measurement(answer: Answer, said: str) -> None:
    with pytest.raises(Unmeasured, match=said):
        asked(answer)


def test_one_that_is_gone_is_no_measurement() -> None:
    with pytest.raises(Unmeasured, match="cannot be asked"):
        asyncio.run(measuring.ask_prometheus(Prometheus(url="http://127.0.0.1:9", query="up", max=1)))


def reading(started: int, requests: int, errors: int) -> dict[str, Any]:
    """What a gateway says of deployment d."""
    counters = Counters()
    for number in range(requests):
        counters.note(500 if number < errors else 200, 1.0)
    return {"started_at": started, "endpoints": {"m": {"deployments": {"d": {"version": 1, **counters.shown()}}}}}


def test_far_gateways_count_from_the_step_on() -> None:
    before = Traffic(reading(1, 10, 0), far={"edge": reading(5, 100, 50)})
    baseline = before.baseline("m", "d", None)
    after = Traffic(reading(1, 15, 1), far={"edge": reading(5, 120, 52), "new": reading(7, 900, 900)})
    seen = after.since(baseline, "target", "m", "d")
    assert (seen.requests, seen.errors, sum(seen.counts)) == (25, 3, 25)
    # its gateway began to count anew, or it is silent: what is known of it is all that counts
    again = Traffic(reading(1, 15, 1), far={"edge": reading(9, 4, 0)}).since(baseline, "target", "m", "d")
    assert (again.requests, again.errors) == (9, 1)
    assert Traffic(reading(1, 15, 1)).since(baseline, "target", "m", "d").requests == 5


def test_the_deaths_of_every_worker_count() -> None:
    def told(**deaths: int) -> Traffic:
        return Traffic(reading(1, 1, 0), {name.replace("_", "-"): {"deaths": each} for name, each in deaths.items()})

    baseline = told(w_d=1, w_d_1=2, w_other=9).baseline("m", "d", None)
    assert told(w_d=1, w_d_1=4, w_other=99).deaths_since(baseline, "d") == 2
    # the first counts anew, the other was stopped for want of work, a third is new
    assert told(w_d=0, w_d_2=1).deaths_since(baseline, "d") == 1
    assert told(w_d=3).deaths_since(None, "d") == 3
