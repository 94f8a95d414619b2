"""What is remembered of rollouts ends with them: a server that runs for years holds one thing an endpoint."""

from pathlib import Path

from modelyard.deliver.deployments.records import Rollout
from modelyard.deliver.deployments.remembered import Remembered
from tests.unit.deliver.deployments.test_rollouts import Delivery


def test_the_next_rollout_or_step_begins_with_nothing(tmp_path: Path) -> None:
    house = Delivery(f"sqlite:///{tmp_path / 'yard.db'}")
    held = Remembered[float]()

    def begun() -> Rollout:
        house.approved()
        found = house.active()
        assert found is not None
        return found

    one = begun()
    held.put(one, 1.0, at=0)
    assert held.get(one, at=0) == 1.0 and held.get(one, at=1) is None
    for later in (begun(), begun(), begun()):
        assert held.get(later, at=0) is None
        held.put(later, 2.0, at=0)
        assert held.get(one, at=0) is None and len(held) == 1
    held.forget(one)
    assert len(held) == 0
    house.close()
