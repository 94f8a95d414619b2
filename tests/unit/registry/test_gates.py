"""Gates: each bound on its own, against the champion, and in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.metrics import lower_is_better
from modelyard.domain.project import Gate
from modelyard.registry import gates

CASES = [
    (Gate(min=0.7), 0.7, True),
    (Gate(min=0.7), 0.6999, False),
    (Gate(max=50.0), 50.0, True),
    (Gate(max=50.0), 50.1, False),
]


@pytest.mark.parametrize(("gate", "value", "passed"), CASES)
def test_a_bound_includes_itself(gate: Gate, value: float, passed: bool) -> None:
    (result,) = gates.evaluate({"m": gate}, {"metrics": {"m": value}})
    assert result.passed is passed and "m " in result.why


def test_a_metric_that_nobody_logs_fails_and_says_what_there_is() -> None:
    (result,) = gates.evaluate({"auc": Gate(min=0.7)}, {"metrics": {"roc_auc": 0.8, "brier": 0.1}})
    assert not result.passed and result.value is None
    assert result.why == "auc was not logged by the evaluation; it has: brier, roc_auc"


def test_no_evaluation_fails_every_gate() -> None:
    results = gates.evaluate({"auc": Gate(min=0.7, max_regression=0.01)}, None)
    assert [result.passed for result in results] == [False, False]


def test_a_gate_by_group_reads_the_group_metric() -> None:
    gate = {"demographic_parity_ratio": Gate(min=0.8, by="carrier")}
    (result,) = gates.evaluate(gate, {"metrics": {"demographic_parity_ratio/carrier": 0.9}})
    assert result.passed and result.gate == "demographic_parity_ratio/carrier"


@pytest.mark.parametrize(
    ("metric", "value", "passed"), [("auc", 0.695, True), ("auc", 0.69, False), ("brier", 0.71, False)]
)
def test_regression_against_the_champion(metric: str, value: float, passed: bool) -> None:
    held = {"version": 3, "metrics": {metric: 0.7}}
    (result,) = gates.evaluate({metric: Gate(max_regression=0.006)}, {"metrics": {metric: value}, "champion": held})
    assert result.passed is passed and "champion v3" in result.why


def test_the_first_version_has_no_champion_to_fall_behind() -> None:
    (result,) = gates.evaluate({"auc": Gate(max_regression=0.0)}, {"metrics": {"auc": 0.5}})
    assert result.passed and "no champion" in result.why


def test_a_champion_without_the_metric_is_no_pass() -> None:
    content = {"metrics": {"auc": 0.9}, "champion": {"version": 1, "metrics": {"brier": 0.1}}}
    (result,) = gates.evaluate({"auc": Gate(max_regression=0.0)}, content)
    assert not result.passed and "has no auc" in result.why


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.5))
def test_better_is_never_a_regression(value: float, held: float, limit: float) -> None:
    for metric in ("auc", "brier"):
        content = {"metrics": {metric: value}, "champion": {"version": 1, "metrics": {metric: held}}}
        (result,) = gates.evaluate({metric: Gate(max_regression=limit)}, content)
        better = value <= held if lower_is_better(metric) else value >= held
        if better:
            assert result.passed
