"""How many workers a load needs: up at once, down slowly, to none only when idle and allowed."""

import pytest

from modelyard.deliver.serving.routing import Scale
from modelyard.deliver.serving.scaling import Scaler

TICK_S = 0.05


class Clock:
    """Feeds a scaler looks at a constant load for some time."""

    def __init__(self, least: int = 1, most: int = 4, count: int = 1, idle_s: float = 30.0) -> None:
        self.now = 100.0
        scale = Scale(least, most, concurrency=10.0, down_after_s=5.0, idle_s=idle_s)
        self.scaler = Scaler(scale, count, self.now)
        self.seen: list[int] = []

    def load(self, under_way: int, seconds: float, may_sleep: bool = True) -> int:
        for _ in range(round(seconds / TICK_S)):
            self.now += TICK_S
            self.seen.append(self.scaler.look(self.now, under_way, active=under_way > 0, may_sleep=may_sleep))
        return self.scaler.count


@pytest.mark.parametrize(("under_way", "workers"), [(0, 1), (9, 1), (11, 2), (29, 3), (500, 4)])
def test_a_lasting_load_has_workers_enough_within_limits(under_way: int, workers: int):
    assert Clock().load(under_way, 4) == workers


def test_more_come_within_a_second_and_a_short_peak_starts_none():
    assert Clock().load(30, 1.5) >= 3
    peaked = Clock()
    peaked.load(7, 3)
    assert peaked.load(30, TICK_S) == 1 and peaked.load(7, 3) == 1


def test_fewer_only_after_all_of_the_time_with_less():
    clock = Clock()
    assert clock.load(40, 6) == 4
    assert clock.load(5, 4) == 4
    assert clock.load(40, 2) == 4  # a peak on the way begins the time anew
    assert clock.load(5, 4) == 4
    assert clock.load(5, 5) == 1


def test_a_load_at_the_edge_does_not_go_back_and_forth():
    clock = Clock()
    clock.load(21, 6)
    clock.seen.clear()
    for _ in range(20):
        clock.load(19, 6)
        clock.load(21, 2)
    assert set(clock.seen) == {3}


def test_none_only_when_idle_and_allowed():
    clock = Clock(least=0)
    clock.load(3, 2)
    assert clock.load(0, 29) == 1 and clock.load(0, 2) == 0
    assert clock.load(1, TICK_S) == 1  # who waits for a worker gets one at once
    assert Clock(least=1).load(0, 60) == 1
    assert Clock(least=0).load(0, 60, may_sleep=False) == 1


def test_one_that_must_not_sleep_any_more_wakes():
    clock = Clock(least=0, count=0, idle_s=0.5)
    assert clock.load(0, 1) == 0 and clock.load(0, TICK_S, may_sleep=False) == 1
