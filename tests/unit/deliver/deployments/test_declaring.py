"""What is declared for one endpoint alone, and taking an endpoint away, on the database alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelyard.deliver.deployments import declaring, publishing, records, rollouts
from modelyard.deliver.deployments.declaring import Declared
from modelyard.domain.environments import AbortIf, RolloutPolicy
from modelyard.domain.errors import ConfigError, Invalid, NotFound
from modelyard.domain.serving import Hosting, Scale
from modelyard.domain.states import RolloutState
from tests.unit.deliver.deployments.test_rollouts import CANARY, Delivery, told

LINEAR = RolloutPolicy(strategy="linear", step="25%", bake="1s")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Delivery]:
    opened = Delivery(f"sqlite:///{tmp_path / 'yard.db'}")
    yield opened
    opened.close()


def declare(
    house: Delivery,
    policy: RolloutPolicy | None,
    scale: Scale | None,
    name: str = "m",
    hosting: Hosting | None = None,
    abort_if: AbortIf | None = None,
) -> None:
    project, said = house.project, Declared(policy, scale, hosting, abort_if)
    house.do(lambda conn: declaring.declare(conn, project, "production", name, said, actor="otto"))


def bounds(house: Delivery) -> AbortIf:
    endpoint = house.see(lambda conn: records.get_endpoint(conn, "production", "m"))
    return records.bounds_at(house.project, endpoint)


def placed(house: Delivery) -> Any:
    wanted = house.see(lambda conn: publishing.read(conn, "production", house.project))
    return wanted.placement.endpoints.get("m")


def test_the_next_rollout_goes_as_declared_and_the_workers_follow_at_once(house: Delivery) -> None:
    house.approved()
    declare(house, LINEAR, Scale(min=2, max=3))
    assert (placed(house).serving.scale, placed(house).serving.most) == (Scale(min=2, max=3), 3)
    under_way = house.active()
    assert under_way is not None and records.policy_of(under_way).strategy == "canary"  # the one under way stays
    house.approved()
    under_way = house.active()
    assert under_way is not None and records.policy_of(under_way).shares() == [0.25, 0.5, 0.75]
    declare(house, None, None)
    assert placed(house).serving.scale is None and len(told(house, "endpoint.changed")) == 2


def test_workers_run_where_the_endpoint_says_and_take_what_it_says(house: Delivery) -> None:
    house.approved()
    assert placed(house).ray is None
    declare(house, None, Scale(min=2, max=3), hosting=Hosting(target="ray", ray="10.0.0.5:6379", cpus=0.5))
    assert placed(house).ray == "10.0.0.5:6379"
    assert (placed(house).serving.cpus, placed(house).serving.most) == (0.5, 3)
    declare(house, None, None, hosting=Hosting(target="ray", workers=4, memory_mb=512))
    found = placed(house)
    assert (found.ray, found.serving.workers, found.serving.memory_mb, found.serving.cpus) == ("", 4, 512, 1.0)
    declare(house, None, None)
    assert (placed(house).ray, placed(house).serving.workers) == (None, 1)
    with pytest.raises(ConfigError, match="ray without target"):
        declare(house, None, None, hosting=Hosting(ray="10.0.0.5:6379"))
    with pytest.raises(ConfigError, match="both workers and scale"):
        declare(house, None, Scale(), hosting=Hosting(workers=2))


def test_an_endpoint_may_stay_beside_the_gateway_of_an_environment_on_ray(tmp_path: Path) -> None:
    project = CANARY.replace("approvals = 1", 'approvals = 1\ntarget = "ray"\nray = "10.0.0.5:6379"')
    house = Delivery(f"sqlite:///{tmp_path / 'yard.db'}", project)
    house.approved()
    assert placed(house).ray == "10.0.0.5:6379"
    declare(house, None, None, hosting=Hosting(target="local"))
    assert placed(house).ray is None
    house.close()


def test_declaring_what_holds_changes_nothing(house: Delivery) -> None:
    house.approved()
    for _ in range(2):
        declare(house, LINEAR, None)
    (event,) = told(house, "endpoint.changed")
    assert (
        event["before"] == {"rollout": None, "scale": None, "hosting": None, "abort_if": None}
        and event["after"]["rollout"]["step"] == "25%"
    )


def test_bounds_of_the_endpoint_win_over_its_environments_one_by_one(tmp_path: Path) -> None:
    project = CANARY.replace("approvals = 1", "approvals = 1\nabort_if = { error_rate = 0.01, latency_p99_ms = 500 }")
    house = Delivery(f"sqlite:///{tmp_path / 'yard.db'}", project)
    around = AbortIf(error_rate=0.01, latency_p99_ms=500.0)
    house.approved()
    assert bounds(house) == around
    declare(house, None, None, abort_if=AbortIf(latency_p99_ms=150.0, declined_rate_above_champion=0.5))
    assert bounds(house) == msgspec.structs.replace(around, latency_p99_ms=150.0, declined_rate_above_champion=0.5)
    declare(house, None, None, abort_if=AbortIf(error_rate=0.3))
    assert bounds(house) == msgspec.structs.replace(around, error_rate=0.3)
    declare(house, None, None)
    assert bounds(house) == around
    said = [event["after"]["abort_if"] for event in told(house, "endpoint.changed")]
    assert [item and item["error_rate"] for item in said] == [None, 0.3, None] and said[0]["latency_p99_ms"] == 150.0
    house.close()


def test_a_bound_on_a_reward_needs_rollouts_that_measure_it(house: Delivery) -> None:
    house.approved()
    rewarded = AbortIf(reward_below_champion=0.1)
    with pytest.raises(Invalid, match=r"production/m has a bound on the reward"):
        declare(house, None, None, abort_if=rewarded)
    declare(house, msgspec.structs.replace(LINEAR, reward="label"), None, abort_if=rewarded)
    assert bounds(house).reward_below_champion == 0.1


def test_what_could_not_be_carried_out_is_refused(house: Delivery) -> None:
    with pytest.raises(ConfigError, match="a canary needs steps"):
        declare(house, RolloutPolicy(strategy="canary"), None)
    with pytest.raises(ConfigError, match=r"scale\.min is 5"):
        declare(house, None, Scale(min=5))
    with pytest.raises(ConfigError, match=r"abort_if\.error_rate is 1\.5"):
        declare(house, None, None, abort_if=AbortIf(error_rate=1.5))
    with pytest.raises(NotFound):
        declare(house, LINEAR, None, name="nowhere")


def test_an_endpoint_that_is_removed_has_nothing_placed_and_can_be_made_again(house: Delivery) -> None:
    one = house.approved()
    rollout = house.to_step()
    house.do(lambda conn: rollouts.complete(conn, house.project, rollout))
    two = house.approved()
    house.do(lambda conn: declaring.remove(conn, "production", "m", "no longer used", actor="otto"))
    assert placed(house) is None and house.active() is None
    (aborted,) = [data for data in told(house, "rollout.aborted") if data["environment"] == "production"]
    assert aborted["version"] == two and "was removed" in aborted["reason"]
    assert [d["version"] for d in told(house, "deployment.retired") if d["environment"] == "production"] == [one]
    house.do(lambda conn: rollouts.deploy(conn, house.project, "m", one, "production", actor="otto", cause=None))
    again = house.active()
    assert again is not None and again.state is RolloutState.PENDING
