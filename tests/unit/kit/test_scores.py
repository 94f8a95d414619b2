"""Metrics and their standard errors, against scikit-learn and against repeated samples."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from modelyard.kit import calibration, forecasts, relevance, scores

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(5, 80), st.integers(2, 5))
def test_multiclass_metrics_agree_with_scikit_learn(seed: int, rows: int, count: int):
    random = np.random.default_rng(seed)
    classes = np.array([f"c{n}" for n in range(count)])
    truth = random.choice(classes, rows)
    shares = random.dirichlet(np.ones(count), rows)
    said = classes[shares.argmax(axis=1)]
    found = scores.multiclass(truth, said, shares, classes).metrics
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, said))
    assert found["macro_f1"] == pytest.approx(reference.f1_score(truth, said, average="macro", zero_division=0))
    assert found["log_loss"] == pytest.approx(reference.log_loss(truth, shares, labels=classes))
    recalls = [float((said[truth == name] == name).mean()) for name in np.unique(truth)]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(3, 80))
def test_regression_metrics_agree_with_scikit_learn(seed: int, rows: int):
    random = np.random.default_rng(seed)
    truth = random.normal(10, 3, rows)
    said = truth + random.normal(size=rows)
    found = scores.regression(truth, said).metrics
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(truth, said))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(truth, said))
    assert found["median_absolute_error"] == pytest.approx(reference.median_absolute_error(truth, said))
    assert found["mape"] == pytest.approx(reference.mean_absolute_percentage_error(truth, said))
    assert found["r2"] == pytest.approx(reference.r2_score(truth, said))


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(2, 30), st.integers(1, 12), st.booleans())
def test_ndcg_agrees_with_scikit_learn_also_for_ties(seed: int, rows: int, cut: int, ties: bool):
    random = np.random.default_rng(seed)
    gains = random.integers(0, 4, rows).astype(float)
    gains[0] = 3
    said = random.integers(0, 3, rows).astype(float) if ties else random.random(rows)
    assert relevance.ndcg(gains, said, cut) == pytest.approx(reference.ndcg_score([gains], [said], k=cut))


def test_rankings_are_judged_by_query():
    labels, queries = np.array([0, 1, 0, 1, 0, 0]), np.array(["a", "a", "a", "b", "b", "c"])
    said = np.array([3.0, 2.0, 1.0, 5.0, 4.0, 1.0])
    found = relevance.ranking(labels, said, queries).metrics
    assert found["mrr"] == pytest.approx((1 / 2 + 1) / 2)  # query c has nothing relevant
    assert found["map"] == pytest.approx((1 / 2 + 1) / 2)
    one = reference.label_ranking_average_precision_score([[0, 1, 0], [1, 0, 0]], [[3, 2, 1], [5, 4, 0]])
    assert found["map"] == pytest.approx(one)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(2, 60), st.floats(0.05, 0.95))
def test_pinball_agrees_with_scikit_learn(seed: int, rows: int, level: float):
    random = np.random.default_rng(seed)
    actual, said = random.normal(size=rows), random.normal(size=rows)
    found = forecasts.forecast(actual, said, np.zeros(rows), None, {level: said}).metrics
    assert found["pinball"] == pytest.approx(reference.mean_pinball_loss(actual, said, alpha=level))


def test_a_seasonal_naive_forecast_has_a_mase_of_one():
    history = np.array([1.0, 5.0, 2.0, 7.0, 4.0, 8.0])
    scale = forecasts.naive_scale(history, season=2)
    assert scale == pytest.approx(np.mean([1, 2, 2, 1]))
    actual = np.array([4.0 + scale, 8.0 - scale])
    found = forecasts.forecast(actual, np.array([4.0, 8.0]), np.zeros(2), {0.0: scale}).metrics
    assert found["mase"] == pytest.approx(1.0)
    assert found["smape"] == pytest.approx(np.mean(2 * scale / (actual + np.array([4.0, 8.0]))))


def test_coverage_is_the_share_between_the_outer_levels():
    actual = np.arange(10.0)
    levels = {0.1: np.full(10, 2.0), 0.5: np.full(10, 5.0), 0.9: np.full(10, 7.0)}
    assert forecasts.forecast(actual, actual, np.zeros(10), None, levels).metrics["coverage"] == 0.6


def _spread(draw: Any, metrics: list[str], times: int = 80) -> tuple[dict[str, float], dict[str, float]]:
    found = [draw(np.random.default_rng(seed)) for seed in range(times)]
    real = {name: float(np.std([each.metrics[name] for each in found])) for name in metrics}
    stated = {name: float(np.mean([each.errors[name] for each in found])) for name in metrics}
    return real, stated


def test_standard_errors_are_those_of_repeated_samples():
    def classes(random: Any) -> scores.Measured:
        truth = random.integers(0, 3, 400)
        return scores.multiclass(truth, np.where(random.random(400) < 0.7, truth, random.integers(0, 3, 400)))

    def numbers(random: Any) -> scores.Measured:
        truth = random.normal(size=400)
        return scores.regression(truth, truth + random.normal(size=400) * 0.5)

    for draw, names in ((classes, ["accuracy", "macro_f1", "balanced_accuracy"]), (numbers, ["mae", "rmse"])):
        real, stated = _spread(draw, names)
        assert stated == pytest.approx(real, rel=0.3)


def test_errors_that_follow_one_another_widen_a_forecasts_standard_error():
    def walk(random: Any) -> scores.Measured:
        noise = random.normal(size=600)
        errors = np.empty(600)
        errors[0] = noise[0]
        for step in range(1, 600):
            errors[step] = 0.5 * errors[step - 1] + noise[step]
        return forecasts.forecast(errors, np.zeros(600), np.zeros(600))

    real, stated = _spread(walk, ["bias"])
    assert stated == pytest.approx(real, rel=0.35)
    assert stated["bias"] > 1.3 * np.sqrt(1 / 0.75 / 600)  # what independent errors would give


def test_calibration_error_is_small_for_honest_probabilities_and_large_for_others():
    random = np.random.default_rng(0)
    said = random.random(20_000)
    labels = (random.random(20_000) < said).astype(int)
    assert calibration.expected_calibration_error(labels, said) < 0.02
    assert calibration.expected_calibration_error(labels, said**3) > 0.1
    means, shares, counts = calibration.reliability(labels, said)
    assert counts.sum() == 20_000 and len(means) == 10
    assert np.abs(means - shares).max() < 0.05
