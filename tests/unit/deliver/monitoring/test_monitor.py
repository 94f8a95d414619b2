"""Windows of the prediction log, and what a monitor says of each."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.deliver.monitoring import metrics, monitor, watch
from modelyard.deliver.monitoring.cells import Cell, Cells
from modelyard.deliver.monitoring.data_quality import Constraint
from modelyard.deliver.monitoring.kinds import (
    ALERT,
    BIAS,
    DATA,
    DRIFT,
    ESTIMATE,
    EXPLANATION,
    OK,
    QUALITY,
    SERVICE,
    WARNING,
)
from modelyard.deliver.monitoring.monitor import Result
from modelyard.deliver.monitoring.tables import open_table
from modelyard.deliver.monitoring.watch import Watch
from modelyard.domain.errors import Invalid
from modelyard.domain.monitors import (
    BiasLimits,
    DriftLimits,
    Monitor,
    QualityLimits,
    Retrain,
    ServiceLimits,
    Window,
)

MINUTE = 60_000


def logged(
    rows: int, *, first: int = 1, step: int = 1, version: int = 1, shift: float = 0.0, signal: float = 1.0
) -> pa.Table:
    """Rows whose prediction is the true chance of the label, when signal is 1; it depends on `age` alone."""
    random = np.random.default_rng(rows + version)
    age = random.normal(40 + 10 * shift, 10, rows)
    prediction = 1 / (1 + np.exp(-(age - 40) / 5))
    chance = signal * prediction + (1 - signal) * 0.5
    return pa.table(
        {
            "time_ms": pa.array(range(first, first + rows * step, step), pa.int64()),
            "version": pa.array([version] * rows, pa.int64()),
            "latency_ms": pa.array(random.gamma(2, 3, rows)),
            "prediction": pa.array(prediction),
            "input.age": pa.array(age),
            "input.noise": pa.array(random.normal(0, 1, rows)),
            "input.kind": pa.array(["a" if value else "b" for value in random.random(rows) < 0.5]),
            "label": pa.array((random.random(rows) < chance).astype(float)),
        }
    )


def reference(rows: int = 40_000) -> pa.Table:
    table = logged(rows)
    names = {"input.age": "age", "input.noise": "noise", "input.kind": "kind"}
    return table.select([*names, "prediction", "label"]).rename_columns([*names.values(), "prediction", "label"])


REFERENCE = reference()
LABELS = REFERENCE.column("label").to_numpy()
BASELINE = {
    "metrics": metrics.measure("binary", LABELS, REFERENCE.column("prediction").to_numpy()).metrics,
    "standard_errors": {"roc_auc": 0.002},
}
AUC = BASELINE["metrics"]["roc_auc"]


def watching(declared: Monitor | None = None, **more: Any) -> Watch:
    return watch.prepare(declared or Monitor(window=Window(rows=1000)), 1, REFERENCE, BASELINE, **more)


def cells(held: Watch, table: pa.Table, tmp_path: Any) -> list[Cell]:
    made = Cells(tmp_path / "cells", held.reference.layout, held.declared.window)
    made.add(held.reference, "segment", table)
    return made.done


def judged(held: Watch, table: pa.Table, tmp_path: Any) -> dict[str, Result]:
    found = cells(held, table, tmp_path)
    return {result.kind: result for result in monitor.judge_window(held, found[-1], found)}


def test_unchanged_predictions_are_ok(tmp_path: Any) -> None:
    found = judged(watching(), logged(1000, first=5), tmp_path)
    assert {kind: result.verdict for kind, result in found.items()} == {
        DRIFT: OK,
        DATA: OK,
        SERVICE: OK,
        ESTIMATE: OK,
    }
    drift = found[DRIFT]
    assert (drift.rows, drift.window_start, drift.window_end) == (1000, 5, 1004)
    assert drift.detail["calibrated"] and drift.detail["reference_windows"] == 40


def test_drift_of_what_the_model_uses_is_an_alert_with_numbers_and_picture(tmp_path: Any) -> None:
    found = judged(watching(), logged(1000, shift=1.0), tmp_path)[DRIFT]
    assert found.verdict == ALERT and {"age", "prediction"} <= set(found.detail["drifted"])
    assert "age" in found.title and found.detail["pictures"]["age"].startswith("<svg")
    assert found.detail["false_alarm_rate"] < 0.1


def test_drift_of_what_the_model_hardly_uses_wakes_nobody(tmp_path: Any) -> None:
    table = logged(1000)
    moved = pa.array(table.column("input.noise").to_numpy() + 5)
    table = table.set_column(table.column_names.index("input.noise"), "input.noise", moved)
    found = judged(watching(), table, tmp_path)[DRIFT]
    assert found.verdict == OK and found.detail["drifted"] == ["noise"]
    assert found.detail["share"] < 0.05


def test_ignored_columns_are_not_compared(tmp_path: Any) -> None:
    declared = Monitor(window=Window(rows=1000), drift=DriftLimits(ignore=["age", "prediction"]))
    found = judged(watching(declared), logged(1000, shift=1.0), tmp_path)[DRIFT]
    assert {column["name"] for column in found.detail["columns"]} == {"noise", "kind"} and found.verdict == OK


def test_a_rolling_reference_gets_used_to_a_new_level(tmp_path: Any) -> None:
    declared = Monitor(window=Window(rows=500), drift=DriftLimits(against="rolling"))
    held = watching(declared)
    found = cells(held, logged(20_000, shift=1.0), tmp_path)
    last = monitor.judge_drift(held, found[-1], found)
    assert last.verdict == OK and last.detail["against"] == "rolling"
    assert monitor.judge_drift(watching(Monitor(window=Window(rows=500))), found[-1], found).verdict == ALERT


def test_a_seasonal_reference_is_the_same_time_before(tmp_path: Any) -> None:
    declared = Monitor(window=Window(time="1h"), drift=DriftLimits(against="1d"))
    held = watching(declared)
    warm = logged(3000, first=0, step=1200, shift=1.0)
    table = pa.concat_tables([warm, logged(4000, first=24 * 60 * MINUTE, step=1200, shift=1.0)])
    found = cells(held, table, tmp_path)
    assert monitor.judge_drift(held, found[-1], found).detail["drifted"] == []


def test_missing_columns_alarm_and_odd_values_of_suggested_promises_warn(tmp_path: Any) -> None:
    table = logged(1000)
    at = table.column_names.index("input.age")
    gone = judged(watching(), table.set_column(at, "input.age", pa.nulls(1000, pa.float64())), tmp_path / "a")[DATA]
    assert gone.verdict == ALERT and gone.detail["findings"][0]["check"] == "largely missing"
    ages = table.column("input.age").to_numpy().copy()
    ages[3] = 1e6
    odd = judged(watching(), table.set_column(at, "input.age", pa.array(ages)), tmp_path / "b")[DATA]
    assert odd.verdict == WARNING and "above" in odd.title
    strict = watching(constraints={"age": Constraint("numeric", max=120)})
    broken = judged(strict, table.set_column(at, "input.age", pa.array(ages)), tmp_path / "c")[DATA]
    assert broken.verdict == ALERT


def test_slow_answers_and_missing_traffic_are_an_alert_where_bounds_are_declared(tmp_path: Any) -> None:
    declared = Monitor(window=Window(rows=1000), service=ServiceLimits(latency_p99_ms=5, least_rows=2000))
    found = judged(watching(declared), logged(1000), tmp_path)[SERVICE]
    assert found.verdict == ALERT and "latency p99" in found.title and "1000 rows < 2000" in found.title


@pytest.mark.parametrize(("failed", "verdict"), [(2, "ok"), (40, "alert")])
def test_failed_requests_are_an_alert_beyond_the_declared_rate(tmp_path: Any, failed: int, verdict: str) -> None:
    held = watching(Monitor(window=Window(rows=1000), service=ServiceLimits(error_rate=0.001)))
    window = cells(held, logged(1000), tmp_path)[-1]
    window.requests, window.failed = 1000 + failed, failed
    found = monitor.judge_service(held, window)
    assert found.verdict == verdict and found.detail["failed"] == failed


def test_a_change_that_hides_in_each_window_shows_in_several_together(tmp_path: Any) -> None:
    random, days = np.random.default_rng(3), 60
    level = np.repeat(random.normal(size=days), 100)
    x = level + random.normal(size=len(level))
    table = pa.table({"x": x, "prediction": 1 / (1 + np.exp(-x)), "label": (x > 0).astype(float)})
    held = watch.prepare(Monitor(window=Window(rows=100)), 1, table, BASELINE)
    later = np.repeat(random.normal(size=20), 100) + random.normal(size=2000) + 1.5
    live = pa.table(
        {
            "time_ms": pa.array(range(1, 2001)),
            "version": pa.array([1] * 2000),
            "input.x": later,
            "prediction": 1 / (1 + np.exp(-later)),
        }
    )
    found = cells(held, live, tmp_path)
    alone = [monitor.judge_drift(held, window, []) for window in found]
    together = [monitor.judge_drift(held, window, found) for window in found]
    assert sum(result.verdict == "alert" for result in alone) < 6
    assert sum(result.verdict == "alert" for result in together) >= 2 + sum(r.verdict == "alert" for r in alone)
    assert any("windows together" in result.title for result in together)


def test_a_loss_that_scores_tell_of_is_estimated_before_labels_come(tmp_path: Any) -> None:
    table = logged(1000)
    at = table.column_names.index("prediction")
    unsure = pa.array(0.5 + 0.1 * (table.column("prediction").to_numpy() - 0.5))
    found = judged(watching(), table.set_column(at, "prediction", unsure), tmp_path)[ESTIMATE]
    assert found.verdict == ALERT and found.detail["high"] < AUC


def test_an_estimate_that_was_often_wrong_only_warns(tmp_path: Any) -> None:
    wrong = {"estimate": {"value": 0.9, "low": 0.88, "high": 0.92}, "value": 0.6}
    past = [{"kind": QUALITY, "version": 1, "window_start": 0, "window_end": 0, "rows": 1, "result": wrong}] * 5
    table = logged(1000)
    at = table.column_names.index("prediction")
    unsure = pa.array(0.5 + 0.1 * (table.column("prediction").to_numpy() - 0.5))
    found = judged(watching(past=past), table.set_column(at, "prediction", unsure), tmp_path)[ESTIMATE]
    assert found.verdict == WARNING and found.detail["record"] == {
        "windows": 5,
        "hits": 0,
        "mean_error": pytest.approx(0.3),
    }


def test_a_worse_model_is_an_alert_and_an_equal_one_is_not() -> None:
    declared = Monitor(window=Window(rows=2000), model_quality=QualityLimits(max_regression=0.02))
    (good,) = monitor.judge_labels(watching(declared), logged(2000))
    (bad,) = monitor.judge_labels(watching(declared), logged(2000, signal=0.5))
    assert (good.kind, good.verdict, bad.verdict) == (QUALITY, OK, ALERT)
    assert bad.detail["metric"] == "roc_auc" and bad.detail["baseline"] == AUC
    assert bad.detail["low"] < bad.detail["value"] < bad.detail["high"]
    estimated = bad.detail["estimate"]
    assert not estimated["low"] <= bad.detail["value"] <= estimated["high"]  # concepts drift unseen by estimates


def test_without_a_registered_evaluation_the_first_labelled_window_is_what_later_ones_are_compared_with() -> None:
    declared = Monitor(window=Window(rows=2000), model_quality=QualityLimits(max_regression=0.02))
    worse = logged(2000, first=2001, signal=0.5)
    held = watch.prepare(declared, 1, REFERENCE, {}, registered=False)
    first, second, third = monitor.judge_labels(
        held, pa.concat_tables([logged(2000), worse, logged(2000, first=4001)])
    )
    assert first.verdict == OK and "first labelled window, which later ones are compared with" in first.title
    assert (second.verdict, third.verdict) == (ALERT, OK)
    assert second.detail["baseline"] == third.detail["baseline"] == first.detail["value"]
    assert held.baseline["standard_errors"]["roc_auc"] == pytest.approx(
        (first.detail["intervals"]["roc_auc"]["high"] - first.detail["value"]) / 1.959964
    )


def test_what_was_registered_is_not_replaced_by_the_first_labelled_window() -> None:
    held = watching(Monitor(window=Window(rows=2000)), registered=False)
    (found,) = monitor.judge_labels(held, logged(2000, signal=0.5))
    assert found.verdict == ALERT and held.baseline is BASELINE


def test_estimates_are_right_while_the_concept_stays() -> None:
    hits = 0
    for first in range(20):
        (found,) = monitor.judge_labels(watching(Monitor(window=Window(rows=700 + first))), logged(700 + first))
        estimated = found.detail["estimate"]
        hits += estimated["low"] <= found.detail["value"] <= estimated["high"]
    assert hits >= 17


def test_rows_without_a_label_wait() -> None:
    table = logged(2000)
    half = [value if row < 1500 else None for row, value in enumerate(table.column("label").to_pylist())]
    table = table.set_column(table.column_names.index("label"), "label", pa.array(half, pa.float64()))
    found = monitor.judge_labels(watching(), table)
    assert [result.rows for result in found] == [1000]


def test_late_labels_have_their_window_judged_again_and_few_do_not() -> None:
    table = logged(3000)
    past = [{"kind": QUALITY, "version": 1, "window_start": 1, "window_end": 2000, "rows": 1000, "result": {}}]
    found = monitor.judge_labels(watching(past=past), table)
    assert [(result.window_start, result.window_end, result.rows) for result in found] == [
        (1, 2000, 2000),
        (2001, 3000, 1000),
    ]
    past[0]["rows"] = 1950
    assert [result.window_start for result in monitor.judge_labels(watching(past=past), table)] == [2001]


def test_the_worst_slice_is_found_by_itself() -> None:
    table = logged(4000)
    kinds, labels = table.column("input.kind").to_pylist(), table.column("label").to_numpy().copy()
    flip = np.array([kind == "b" for kind in kinds])
    labels[flip] = 1 - labels[flip]
    table = table.set_column(table.column_names.index("label"), "label", pa.array(labels))
    (found,) = monitor.judge_labels(watching(Monitor(window=Window(rows=4000))), table)
    first = found.detail["slices"][0]
    assert (first["by"], first["value"]) == ("kind", "b") and first["excess"] > 0.1


def test_bias_is_judged_over_protected_columns() -> None:
    declared = Monitor(window=Window(rows=4000), bias=BiasLimits(min_ratio=0.8))
    table = logged(4000)
    wished = np.where(np.array(table.column("input.kind").to_pylist()) == "b", 0.2, 0.9)
    table = table.set_column(table.column_names.index("prediction"), "prediction", pa.array(wished))
    found = {result.kind: result for result in monitor.judge_labels(watching(declared, protected=["kind"]), table)}
    assert found[BIAS].verdict == ALERT and "ratio 0.00" in found[BIAS].title
    fair = {r.kind: r for r in monitor.judge_labels(watching(declared, protected=["kind"]), logged(4000))}
    assert fair[BIAS].verdict == OK


def test_regression_is_judged_by_its_own_metric() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(10, 3, 1000)
    table = pa.table(
        {
            "time_ms": pa.array(range(1, 1001), pa.int64()),
            "version": pa.array([1] * 1000, pa.int64()),
            "prediction": pa.array(truth + random.normal(0, 2, 1000)),
            "input.x": pa.array(truth),
            "label": pa.array(truth),
        }
    )
    window = pa.table({"x": truth, "prediction": truth})
    for registered, verdict in ((2.0, OK), (1.0, ALERT)):
        held = watch.prepare(
            Monitor(window=Window(rows=1000)), 1, window, {"metrics": {"rmse": registered}}, task="regression"
        )
        (found,) = monitor.judge_labels(held, table)
        assert found.verdict == verdict and found.detail["metric"] == "rmse"
        assert found.detail["value"] == pytest.approx(2.0, abs=0.15)


def test_windows_of_time_and_rows_are_complete_ones() -> None:
    table = logged(35, step=MINUTE)
    assert [part.num_rows for part in monitor.windows(table, Window(time="10m"))] == [10, 10, 10]
    assert [part.num_rows for part in monitor.windows(table, Window(rows=10), after_ms=9 * MINUTE)] == [10, 10]
    assert monitor.windows(logged(0), Window(rows=10)) == [] == monitor.windows(logged(0), Window(time="1h"))


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 9), st.data())
def test_no_row_is_skipped_or_judged_twice(steps: list[int], least: int, data: st.DataObject) -> None:
    """steps: how much later each row is than the one before; many share their millisecond. Rows come bit by bit."""
    times = np.cumsum(steps) + 1
    log = pa.table({"time_ms": times, "row": np.arange(len(times))})
    ends = sorted(data.draw(st.sets(st.integers(1, int(times[-1])), max_size=5)) | {int(times[-1])})
    after, seen = 0, 0
    for end in ends:
        held = log.slice(0, int((times <= end).sum()))
        for window in monitor.windows(held, Window(rows=least), after):
            rows = window.column("row").to_pylist()
            assert rows == list(range(seen, seen + len(rows)))
            moments = window.column("time_ms").to_numpy()
            assert len(rows) >= least > int((moments < moments[-1]).sum())  # and no longer than it has to be
            after, seen = int(moments[-1]), seen + len(rows)
        assert len(held) - seen < least
    assert seen == int((times <= after).sum())


def test_labels_that_come_later_between_two_windows_belong_to_the_second() -> None:
    ends = [(1, 900), (1101, 2000)]
    past = [
        {"kind": QUALITY, "version": 1, "window_start": start, "window_end": end, "rows": 900, "result": {}}
        for start, end in ends
    ]
    found = monitor.judge_labels(watching(past=past), logged(2000))
    assert [(result.window_start, result.window_end, result.rows) for result in found] == [(1101, 2000, 1100)]


def test_a_model_that_cannot_be_asked_is_a_finding_that_says_what_to_do(tmp_path: Any) -> None:
    drift = judged(watching(), logged(1000), tmp_path)[DRIFT]
    why = Invalid("The model needs the Python module xgboost.", remedy="Install it.")
    found = monitor.unexplained(watching(), drift, why)
    assert (found.kind, found.verdict, found.window_end) == (EXPLANATION, WARNING, drift.window_end)
    assert "xgboost. Install it." in found.title and "deploy the version again" in found.detail["remedy"]


def test_a_result_is_plain_data_for_the_wire(tmp_path: Any) -> None:
    import json

    wire = judged(watching(), logged(1000, shift=2.0), tmp_path)[DRIFT].as_wire()
    assert set(wire) == {"kind", "version", "window_start", "window_end", "rows", "verdict", "title", "detail"}
    json.dumps(wire)


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


def test_the_default_policy_retrains_on_measured_or_estimated_loss() -> None:
    assert Retrain().on == ("model_quality", "estimate", "drift")


def test_a_batch_is_judged_as_one_window() -> None:
    held = watching()
    names = {"input.age": "age", "input.noise": "noise", "input.kind": "kind", "prediction": "prediction"}
    batch = logged(1000, shift=1.0).select(list(names)).rename_columns(list(names.values()))
    found = {item.kind: item for item in monitor.judge_batch(held, open_table(batch), 10, 20)}
    assert set(found) == {DRIFT, DATA, ESTIMATE}
    drift = found[DRIFT]
    assert (drift.verdict, drift.rows, drift.window_start, drift.window_end) == (ALERT, 1000, 10, 20)
    without = monitor.judge_batch(held, open_table(batch.drop_columns("kind")), 10, 20)
    assert next(item for item in without if item.kind == DATA).title == "kind is absent from the live data"
