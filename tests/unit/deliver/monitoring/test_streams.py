"""Changes of level, row by row: found soon after they come, and seldom where there are none."""

import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import load_digits

from modelyard.deliver.monitoring import monitor, streams, watch
from modelyard.deliver.monitoring.kinds import ALERT, OK
from modelyard.domain.errors import Conflict, MissingExtra
from modelyard.domain.monitors import Monitor

VECTORS, TARGET = (np.asarray(part) for part in load_digits(return_X_y=True))
RANDOM = np.random.default_rng(3)
ORDER = RANDOM.permutation(len(TARGET))
INK = VECTORS[:, [20, 28, 36]].sum(axis=1)
"""How much ink lies in the middle of a written digit; more in an eight than in a zero."""


def test_another_kind_of_digit_is_noticed_soon_and_the_same_is_not() -> None:
    times = np.arange(6000)
    same = INK[ORDER][RANDOM.integers(0, len(INK), 6000)]
    assert streams.shifts({"ink": same}, times) == []
    zeros, others = np.flatnonzero(TARGET == 0), np.flatnonzero(TARGET != 0)
    mixed = np.concatenate([INK[RANDOM.choice(others, 4000)], INK[RANDOM.choice(zeros, 2000)]])
    found = streams.shifts({"ink": mixed, "none": np.full(6000, np.nan)}, times)
    assert found[0].stream == "ink" and 4000 < found[0].at < 4300
    assert found[-1].after < found[0].before and "change" in streams.title(found)


def test_shifts_are_rare_where_there_are_none() -> None:
    alarms = 0
    for seed in range(10):
        random = np.random.default_rng(seed)
        alarms += len(streams.shifts({"x": random.normal(size=5000)}, np.arange(5000)))
    assert alarms == 0


def logged(rows: int, wrong_from: int) -> Any:
    labels = np.arange(rows) % 2
    said = np.where(np.arange(rows) < wrong_from, labels * 0.9 + 0.05, 0.5)
    columns: dict[str, Any] = {"time_ms": np.arange(rows), "version": np.ones(rows, int), "prediction": said}
    known = [float(label) if row % 5 else None for row, label in enumerate(labels.tolist())]
    return pa.table({**columns, "input.x": RANDOM.normal(size=rows), "label": pa.array(known, pa.float64())})


def watching(*names: str) -> watch.Watch:
    held = logged(2000, 2000)
    reference = pa.table({"x": held.column("input.x"), "prediction": held.column("prediction")})
    return watch.prepare(Monitor(streams=list(names)), 1, reference, {})


def test_a_monitor_tells_what_is_new_since_it_last_looked() -> None:
    table = logged(6000, 3000)
    first = monitor.judge_streams(watching("error", "x"), table, -1)
    assert first is not None and first.verdict == ALERT and first.rows == 6000
    (shift,) = [shift for shift in first.detail["shifts"] if shift["stream"] == "error"][:1]
    assert 3000 < shift["at"] < 3600 and shift["before"] < 0.05
    later = monitor.judge_streams(watching("error"), table, 5500)
    assert later is not None and later.verdict == OK and later.rows == 499
    assert monitor.judge_streams(watching("error"), table, 6000) is None
    with pytest.raises(Conflict, match="'wind' is no column of numbers"):
        monitor.judge_streams(watching("wind"), table, 0)


def test_without_river_the_command_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "river.drift", None)
    with pytest.raises(MissingExtra, match="river") as raised:
        streams.shifts({"x": np.zeros(10)}, np.arange(10))
    assert "modelyard[streaming]" in raised.value.remedy
