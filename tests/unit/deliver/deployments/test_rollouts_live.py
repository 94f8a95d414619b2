"""Rollouts on a yard that is up, judged by which version answers, never by a status field."""

from collections.abc import Callable

from tests.unit.deliver.deployments.house import House

Yard = Callable[..., House]


def test_a_canary_shares_the_traffic_and_completes(yard: Yard) -> None:
    house = yard()
    one = house.first()
    with house.flow() as flow:
        two = house.ship()
        house.wait_event("rollout.completed", version=two)
        house.wait(lambda: house.settled(two), "v2 to have all the traffic")
    assert flow.failed == {} and flow.answered == {str(one), str(two)}
    (step,) = house.events("rollout.step", version=two)
    assert step["data"]["share"] == 0.5 and "smoke request" in step["data"]["checks"][0]
