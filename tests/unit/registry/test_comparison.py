"""Comparisons: the strongest claim that what is stored allows, and no stronger."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    log_loss,
    mean_absolute_error,
    mean_absolute_percentage_error,
    median_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from modelyard.kit.calibration import expected_calibration_error
from modelyard.kit.scores import Z95, interval
from modelyard.registry import comparison, paired
from modelyard.registry.comparison import Side
from modelyard.registry.versions import Version


def side(number: int, lineage: dict[str, Any] | None = None, size: int = 10, **content: Any) -> Side:
    version = Version(
        "m", number, "d", "s", None, None, None, None, "ana", None, "", {}, lineage or {}, "None", 0, 0, None
    )
    return Side(version, content, size)


def data(rows: int = 4000, seed: int = 0) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(seed)
    label = (random.random(rows) < 0.3).astype(float)
    first = np.clip(0.3 + 0.2 * (label - 0.3) + random.normal(0, 0.15, rows), 0.001, 0.999)
    second = np.clip(first + 0.05 * (label - 0.3) + random.normal(0, 0.02, rows), 0.001, 0.999)
    return label, first, second


def test_paired_differences_are_those_of_scikit_learn() -> None:
    label, first, second = data()
    found = paired.differences(label, first, second)
    scores = {
        "roc_auc": roc_auc_score,
        "brier": brier_score_loss,
        "log_loss": log_loss,
        "average_precision": average_precision_score,
        "expected_calibration_error": expected_calibration_error,
    }
    for name, score in scores.items():
        assert found[name]["value"] == pytest.approx(score(label, second) - score(label, first), abs=1e-12)
    ties = np.round(first, 1), np.round(second, 1)
    value = average_precision_score(label, ties[1]) - average_precision_score(label, ties[0])
    assert paired.differences(label, *ties)["average_precision"]["value"] == pytest.approx(value, abs=1e-12)
    amount = 1 + label * 100 + np.arange(len(label)) % 7
    found = paired.differences(amount, first * 90, second * 90)
    for name, score in {
        "rmse": root_mean_squared_error,
        "mae": mean_absolute_error,
        "r2": r2_score,
        "mape": mean_absolute_percentage_error,
        "median_absolute_error": median_absolute_error,
    }.items():
        assert found[name]["value"] == pytest.approx(score(amount, second * 90) - score(amount, first * 90))


def test_intervals_agree_with_the_bootstrap() -> None:
    """Analytic half-widths lie within 12% of those of a paired bootstrap."""
    label, first, second = data(1500)
    found = paired.differences(label, first, second)
    random = np.random.default_rng(1)
    draws: list[tuple[float, ...]] = []
    for _ in range(600):
        rows = random.integers(0, len(label), len(label))
        auc = roc_auc_score(label[rows], second[rows]) - roc_auc_score(label[rows], first[rows])
        brier = brier_score_loss(label[rows], second[rows]) - brier_score_loss(label[rows], first[rows])
        precision = average_precision_score(label[rows], second[rows]) - average_precision_score(
            label[rows], first[rows]
        )
        draws.append((auc, brier, precision))
    for column, name in enumerate(("roc_auc", "brier", "average_precision")):
        width = Z95 * np.std([draw[column] for draw in draws])
        assert (found[name]["high"] - found[name]["low"]) / 2 == pytest.approx(width, rel=0.12)


def test_the_same_predictions_differ_by_nothing() -> None:
    label, first, _ = data(500)
    for difference in paired.differences(label, first, first).values():
        assert difference == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_a_false_alarm_is_as_rare_as_promised() -> None:
    """Two equally good models: about 5% of intervals leave out zero."""
    outside = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        label = (random.random(400) < 0.4).astype(float)
        first, second = (np.clip(0.4 + 0.2 * (label - 0.4) + random.normal(0, 0.2, 400), 0, 1) for _ in range(2))
        found = interval(*paired.auc_difference(label, first, second))
        outside += not found["low"] <= 0 <= found["high"]
    assert 3 <= outside <= 30


def test_a_paired_interval_decides_before_anything_else() -> None:
    errors = {"auc": 0.5}
    sides = [
        side(1, metrics={"auc": 0.70}, standard_errors=errors, dataset="d"),
        side(2, metrics={"auc": 0.72}, standard_errors=errors, dataset="d"),
    ]
    held = {2: {"differences": {"auc": {"value": 0.02, "low": 0.01, "high": 0.03}}}}
    found = comparison.compare(sides, "auc", held)
    assert found["verdicts"][0]["better"] == "v2" and found["verdicts"][0]["beyond_noise"] is True
    assert "more than noise" in found["verdicts"][0]["sentence"] and "same rows" in found["verdicts"][0]["sentence"]


def test_without_pairing_joint_errors_decide() -> None:
    sides = [
        side(1, metrics={"brier": 0.20}, standard_errors={"brier": 0.01}, dataset="d"),
        side(2, metrics={"brier": 0.19}, standard_errors={"brier": 0.01}, dataset="d"),
    ]
    verdict = comparison.compare(sides, "brier")["verdicts"][0]
    assert verdict["better"] == "v2" and verdict["beyond_noise"] is False
    assert "no more than noise" in verdict["sentence"]


def test_without_any_uncertainty_nothing_is_claimed() -> None:
    sides = [side(1, metrics={"auc": 0.7}), side(2, metrics={"auc": 0.9})]
    found = comparison.compare(sides)
    assert found["verdicts"][0]["beyond_noise"] is None and "unknown" in found["verdicts"][0]["sentence"]
    assert found["same_data"] is False


def test_evidence_against_the_champion_is_turned_round() -> None:
    measured = {"version": 2, "difference": {"auc": {"value": 0.03, "low": 0.01, "high": 0.05}}}
    sides = [side(3, metrics={"auc": 0.73}, champion=measured), side(2, metrics={"auc": 0.70})]
    difference = comparison.compare(sides, "auc")["metrics"][0]["differences"][0]
    assert (difference["value"], difference["low"], difference["high"]) == (-0.03, -0.05, -0.01)
    assert difference["better"] == "first" and difference["beyond_noise"] is True


def test_no_shared_metric_is_said() -> None:
    verdict = comparison.compare([side(1, metrics={"auc": 0.7}), side(2)])["verdicts"][0]
    assert verdict["better"] is None and "share no metric" in verdict["sentence"]


def test_params_code_size_and_groups_are_shown() -> None:
    group = {"by": "carrier", "value": "AA", "rows": 100, "metrics": {"auc": 0.6}}
    sides = [
        side(1, {"params": {"depth": 3}, "code": {"commit": "a"}}, 10, metrics={"auc": 0.7}, slices=[group]),
        side(
            2,
            {"params": {"depth": 4}, "code": {"commit": "b"}},
            20,
            metrics={"auc": 0.8, "latency_p99_ms": 3.0},
            slices=[{**group, "metrics": {"auc": 0.5}}],
        ),
    ]
    found = comparison.compare(sides, "auc")
    assert found["params"] == [{"param": "depth", "values": [3, 4], "differs": True}]
    assert found["code_differs"] == [False, True] and found["size_bytes"] == [10, 20]
    assert found["slices"] == [{"by": "carrier", "value": "AA", "rows": [100, 100], "values": [0.6, 0.5]}]
    assert found["latency_ms"]["latency_p99_ms"] == [None, 3.0]


def test_files_that_cannot_be_paired_say_why(tmp_path: Any) -> None:
    import pandas as pd

    first, second, other = (tmp_path / f"{name}.parquet" for name in ("first", "second", "other"))
    pd.DataFrame({"label": [0, 1], "prediction": [0.1, 0.9]}).to_parquet(first)
    pd.DataFrame({"label": [1, 1], "prediction": [0.1, 0.9]}).to_parquet(second)
    pd.DataFrame({"x": [1, 1]}).to_parquet(other)
    assert paired.compare_files(first, second) == {"reason": "the stored rows are not the same"}
    assert "no label and prediction" in paired.compare_files(first, other)["reason"]
    assert paired.compare_files(first, first)["rows"] == 2
