"""Windows of the prediction log, and what a monitor says of each."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modelyard.deliver.monitoring import monitor
from modelyard.domain.project import DriftLimits, Monitor, QualityLimits, Window

MINUTE = 60_000


def logged(rows: int, *, first: int = 1, step: int = 1, version: int = 1, shift: float = 0.0) -> pa.Table:
    random = np.random.default_rng(rows + version)
    labels = (random.random(rows) < 0.4).astype(float)
    return pa.table(
        {
            "time_ms": pa.array(range(first, first + rows * step, step), pa.int64()),
            "version": pa.array([version] * rows, pa.int64()),
            "prediction": pa.array(np.clip(0.3 * labels + random.uniform(0, 0.7, rows), 0, 1)),
            "input.age": pa.array(random.normal(40 + 10 * shift, 10, rows)),
            "input.kind": pa.array(["a" if value else "b" for value in random.random(rows) < 0.5]),
            "label": pa.array(labels),
        }
    )


def by_rows(rows: int) -> Monitor:
    return Monitor(window=Window(rows=rows), drift=DriftLimits(columns_share=0.5))


def reference(rows: int = 4000) -> dict[str, Any]:
    return monitor.arrays(logged(rows), ["age", "kind", "prediction"])


def test_only_complete_windows_are_judged() -> None:
    found = monitor.windows(logged(2499), by_rows(1000), 1, 0)
    assert [window.num_rows for window in found] == [1000, 1000]
    assert found[1].column("time_ms")[0].as_py() == 1001


def test_what_was_judged_is_not_judged_again() -> None:
    declared, table = by_rows(1000), logged(3500)
    first = monitor.windows(table, declared, 1, 0)
    assert monitor.windows(table, declared, 1, first[-1].column("time_ms")[-1].as_py()) == []
    more = pa.concat_tables([table, logged(700, first=3501)])
    (next_one,) = monitor.windows(more, declared, 1, first[-1].column("time_ms")[-1].as_py())
    assert next_one.column("time_ms")[0].as_py() == 3001


def test_versions_are_judged_apart() -> None:
    mixed = pa.concat_tables([logged(900), logged(1100, first=901, version=2)])
    assert monitor.windows(mixed, by_rows(1000), 1, 0) == []
    (window,) = monitor.windows(mixed, by_rows(1000), 2, 0)
    assert set(window.column("version").to_pylist()) == {2}


def test_windows_of_time_close_when_their_time_is_over() -> None:
    declared = Monitor(window=Window(time="10m"))
    found = monitor.windows(logged(35, step=MINUTE), declared, 1, 0)
    assert [window.num_rows for window in found] == [10, 10, 10]


def test_an_empty_log_has_no_window() -> None:
    for declared in (by_rows(10), Monitor(window=Window(time="1h"))):
        assert monitor.windows(logged(0), declared, 1, 0) == []


def test_unchanged_predictions_are_ok() -> None:
    (found,) = monitor.judge_drift(logged(1000), reference(), by_rows(1000), 1, 0)
    assert (found.kind, found.verdict, found.rows) == (monitor.DRIFT, monitor.OK, 1000)
    assert (found.window_start, found.window_end) == (1, 1000)
    assert found.detail["drifted"] == [] and found.detail["data_quality"] == []


def test_drift_beyond_the_share_of_columns_is_an_alert_that_names_them() -> None:
    declared = Monitor(window=Window(rows=1000), drift=DriftLimits(columns_share=0.3))
    (found,) = monitor.judge_drift(logged(1000, shift=2.0), reference(), declared, 1, 0)
    assert found.verdict == monitor.ALERT and found.detail["drifted"] == ["age"] and "age" in found.title


def test_drift_below_the_share_of_columns_is_a_warning() -> None:
    (found,) = monitor.judge_drift(logged(1000, shift=2.0), reference(), by_rows(1000), 1, 0)
    assert found.verdict == monitor.WARNING and found.detail["drifted"] == ["age"]


def test_a_worse_model_is_an_alert_and_an_equal_one_is_not() -> None:
    declared = Monitor(window=Window(rows=2000), model_quality=QualityLimits(max_regression=0.02))
    (good,) = monitor.judge_quality(logged(2000), {"metrics": {"roc_auc": 0.8}}, declared, 1, 0)
    (bad,) = monitor.judge_quality(logged(2000), {"metrics": {"roc_auc": 0.99}}, declared, 1, 0)
    assert (good.kind, good.verdict, bad.verdict) == (monitor.QUALITY, monitor.OK, monitor.ALERT)
    assert bad.detail["metric"] == "roc_auc" and bad.detail["baseline"] == 0.99


def test_rows_without_a_label_wait() -> None:
    table = logged(2000)
    half = [value if row < 1500 else None for row, value in enumerate(table.column("label").to_pylist())]
    table = table.set_column(table.column_names.index("label"), "label", pa.array(half, pa.float64()))
    found = monitor.judge_quality(table, {"metrics": {"roc_auc": 0.8}}, by_rows(1000), 1, 0)
    assert [result.rows for result in found] == [1000]


def test_a_result_is_plain_data_for_the_wire() -> None:
    (found,) = monitor.judge_drift(logged(1000, shift=2.0), reference(), by_rows(1000), 1, 0)
    wire = found.as_wire()
    assert set(wire) == {"kind", "version", "window_start", "window_end", "rows", "verdict", "title", "detail"}
    assert all(type(column["drifted"]) is bool for column in wire["detail"]["columns"])


COLUMNS = [
    (pa.array([1, None, 3], pa.int64()), "f"),
    (pa.array([1.5, None], pa.float32()), "f"),
    (pa.array(["a", None], pa.string()), "U"),
    (pa.array([True, None], pa.bool_()), "U"),
    (pa.array(["a", None, "a"]).dictionary_encode(), "U"),
]


@pytest.mark.parametrize(("column", "kind"), COLUMNS)
def test_columns_become_numbers_or_text(column: Any, kind: str) -> None:
    found = monitor.as_array(pa.chunked_array([column]))
    assert found.dtype.kind == kind and len(found) == len(column)
    assert np.isnan(found[1]) if kind == "f" else found[1] == ""
