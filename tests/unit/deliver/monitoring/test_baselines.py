"""A new first window for a version that has no reference window, on the database alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.deliver.monitoring import baselines
from modelyard.deliver.monitoring.baselines import Baseline
from modelyard.domain.errors import Conflict, NotFound
from modelyard.registry import evidence
from tests.unit.deliver.deployments.test_rollouts import CANARY, Delivery, told

WATCHED = CANARY + "\n[models.m.monitor]\nwindow = { rows = 100 }\n"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Delivery]:
    opened = Delivery(f"sqlite:///{tmp_path / 'yard.db'}", WATCHED)
    yield opened
    opened.close()


def rebase(house: Delivery, why: str = "it was a load test") -> Any:
    return house.do(lambda conn: baselines.rebase(conn, house.project, "production", "m", why, actor="otto"))


def held(house: Delivery) -> Baseline:
    return house.see(lambda conn: baselines.read(conn, "production", "m"))


def test_who_asked_for_a_new_first_window_and_why_is_kept_and_holds_for_that_version(house: Delivery) -> None:
    one = house.serve()
    assert held(house) == Baseline(one, registered=False)
    first = rebase(house, "a client was broken")
    again = rebase(house)
    assert held(house) == again and again.since >= first.since > 0 and again.by == "otto"
    assert [event["reason"] for event in told(house, "monitor.rebased")] == [
        "a client was broken",
        "it was a load test",
    ]
    two = house.serve()
    assert held(house) == Baseline(two, registered=False)


def test_a_version_with_a_reference_window_is_refused(house: Delivery) -> None:
    one = house.register(auc=None)
    content = {"metrics": {"roc_auc": 0.8}, "reference": "references/m.parquet"}
    house.do(lambda conn: evidence.attach(conn, "m", one, "evaluation", content, actor="ana"))
    house.settle()
    house.decide(one, "boris")
    house.complete()
    assert held(house) == Baseline(one, registered=True)
    with pytest.raises(Conflict, match="v1 was registered with a reference window"):
        rebase(house)
    assert told(house, "monitor.rebased") == []


def test_there_must_be_something_to_watch(house: Delivery, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no endpoint production/m"):
        rebase(house)
    house.approved()
    with pytest.raises(Conflict, match="Nothing serves at production/m"):
        rebase(house)
    unwatched = Delivery(f"sqlite:///{tmp_path / 'other.db'}")
    unwatched.serve()
    with pytest.raises(NotFound, match="m declares no monitor"):
        rebase(unwatched)
    unwatched.close()
