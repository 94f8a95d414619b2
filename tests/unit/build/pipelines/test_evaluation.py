"""Metrics against scikit-learn, bias by group, and the champion on the same rows."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as reference
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from modelyard.build.pipelines.evaluation import (
    LEAST_GROUP,
    compare_on_same_rows,
    evaluate,
    evaluate_binary,
    frame_digest,
)
from modelyard.kit.scores import binary


def labelled(rows: int = 3000, seed: int = 0) -> pd.DataFrame:
    """Rows whose label follows x and, weakly, z."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"x": random.normal(size=rows), "z": random.normal(size=rows)})
    chance = 1 / (1 + np.exp(-(frame["x"] + 0.3 * frame["z"])))
    return frame.assign(late=(random.random(rows) < chance).astype(int))


def fitted(frame: pd.DataFrame, columns: list[str]) -> Any:
    return LogisticRegression().fit(frame[columns], frame["late"])


class Always:
    """Predicts by one column: a model of which everything is known beforehand."""

    def predict_proba(self, frame: pd.DataFrame) -> Any:
        share = frame["score"].to_numpy()
        return np.column_stack([1 - share, share])


both = arrays.arrays("i8", st.integers(2, 60), elements=st.integers(0, 1)).filter(lambda truth: 0 < truth.mean() < 1)


@settings(max_examples=60, deadline=None)
@given(both, st.integers(0, 2**32 - 1))
def test_metrics_agree_with_scikit_learn(truth: Any, seed: int):
    score = np.random.default_rng(seed).random(len(truth))
    found, _ = binary(truth, score)
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(truth, score))
    assert found["brier"] == pytest.approx(reference.brier_score_loss(truth, score))
    assert found["log_loss"] == pytest.approx(reference.log_loss(truth, score))
    assert found["average_precision"] == pytest.approx(reference.average_precision_score(truth, score))
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, score >= 0.5))


@settings(max_examples=60, deadline=None)
@given(both, st.integers(0, 2**32 - 1))
def test_ties_count_half_in_the_auc(truth: Any, seed: int):
    score = np.random.default_rng(seed).integers(0, 3, len(truth)) / 2
    found, _ = binary(truth, score)
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(truth, score))


def test_average_precision_does_not_depend_on_the_order_of_the_rows():
    truth, score = np.array([1, 0, 0, 1]), np.array([0.5, 0.5, 0.5, 0.5])
    found, _ = binary(truth, score)
    assert found["average_precision"] == pytest.approx(reference.average_precision_score(truth, score))


def test_the_standard_error_of_the_auc_is_that_of_repeated_samples():
    draws, stated = [], []
    for seed in range(60):
        frame = labelled(800, seed)
        found, errors = binary(frame["late"].to_numpy(), 1 / (1 + np.exp(-frame["x"].to_numpy())))
        draws.append(found["roc_auc"])
        stated.append(errors["roc_auc"])
    assert np.mean(stated) == pytest.approx(np.std(draws), rel=0.3)


def test_an_evaluation_says_what_was_measured():
    frame = labelled()
    evaluation = evaluate_binary(fitted(frame, ["x", "z"]), frame, label="late")
    assert evaluation.rows == 3000 and evaluation.dataset == frame_digest(frame)
    assert evaluation.how["features"] == ["x", "z"] and evaluation.how["label"] == "late"
    assert 0 < evaluation.metrics["latency_p50_ms"] <= evaluation.metrics["latency_p99_ms"]
    assert 0.7 < evaluation.metrics["roc_auc"] < 0.8
    assert evaluation.as_evidence() == asdict(evaluation)


def test_parity_compares_groups_that_are_large_enough():
    sizes = {"AA": (LEAST_GROUP * 2, 0.5), "UA": (LEAST_GROUP * 2, 0.25), "HA": (LEAST_GROUP - 1, 0.0)}
    rows = [
        {"carrier": name, "score": 0.9 if row < size * share else 0.1, "late": row % 2}
        for name, (size, share) in sizes.items()
        for row in range(size)
    ]
    evaluation = evaluate_binary(Always(), pd.DataFrame(rows), label="late", protected=["carrier"])
    assert evaluation.metrics["demographic_parity_ratio/carrier"] == pytest.approx(0.5)
    assert [(part["by"], part["value"], part["rows"]) for part in evaluation.slices] == [
        ("carrier", "AA", 200),
        ("carrier", "UA", 200),
        ("carrier", "HA", 99),
    ]


def test_one_class_has_no_auc_and_still_a_brier_score():
    found, errors = binary(np.zeros(10, int), np.full(10, 0.2))
    assert "roc_auc" not in found and "roc_auc" not in errors
    assert found["brier"] == pytest.approx(0.04)


def test_a_better_challenger_is_better_beyond_noise_and_an_equal_one_is_not():
    frame = labelled()
    train, test = frame[:1500], frame[1500:]
    how = {"label": "late", "features": ["x", "z"]}
    good = fitted(train, ["x", "z"])
    bad = LogisticRegression().fit(train[["x", "z"]] * [0, 1], train["late"])
    better = compare_on_same_rows(good, bad, test, how)["difference"]
    assert better["roc_auc"]["low"] > 0 and better["brier"]["high"] < 0
    equal = compare_on_same_rows(good, good, test, how)["difference"]
    assert equal["roc_auc"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert compare_on_same_rows(good, bad, test, how) == compare_on_same_rows(good, bad, test, how)


def test_the_digest_of_a_frame_sees_values_names_and_types():
    frame = pd.DataFrame({"x": [1, 2], "name": ["a", "b"]})
    changed = [
        frame.assign(x=[1, 3]),
        frame.rename(columns={"x": "y"}),
        frame.astype({"x": "float64"}),
        frame.iloc[::-1],
    ]
    assert len({frame_digest(each) for each in [frame, *changed]}) == 5
    assert frame_digest(frame.set_index(pd.Index([5, 6]))) == frame_digest(frame)


def test_a_window_of_one_class_can_be_compared():
    frame = labelled(200)
    model = fitted(frame, ["x", "z"])
    compare_on_same_rows(model, model, frame.assign(late=0), {"label": "late", "features": ["x", "z"]})


def test_a_champion_of_other_columns_can_be_compared():
    frame = labelled(500)
    how = {"label": "late", "features": ["x"]}
    compare_on_same_rows(fitted(frame, ["x"]), fitted(frame, ["x", "z"]), frame, how)


def test_only_what_the_model_takes_is_a_feature():
    frame = labelled(500)
    model = fitted(frame, ["x", "z"])
    evaluation = evaluate_binary(model, frame.assign(flight=range(500)), label="late")
    assert evaluation.how["features"] == ["x", "z"]


def test_bias_of_several_classes_is_told_by_class_group_and_crossing() -> None:
    data, target = (np.asarray(part) for part in load_digits(return_X_y=True))
    rows = pd.DataFrame(data, columns=[f"p{number}" for number in range(64)])
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    pen = np.where(data.sum(axis=1) > 312, "thick", "thin")
    half = np.where(np.arange(len(rows)) % 2, "left", "right")
    model = LogisticRegression(C=0.0001, max_iter=1000).fit(rows[:600], names[target[:600]])
    frame = rows.assign(digit=names[target], pen=pen, hand=half).iloc[600:]
    found = evaluate(model, frame, label="digit", protected=["pen", "hand"])
    told = {(item["by"], item["of"], item["value"]) for item in found.bias}
    assert ("pen", "eight", "thick") in told and ("pen x hand", "one", "thin x left") in told
    assert 0 < found.metrics["demographic_parity_ratio/pen"] < found.metrics["demographic_parity_ratio/hand"] <= 1
    assert "equal_opportunity_ratio/pen" in found.metrics
    (thick,) = [item for item in found.bias if (item["by"], item["of"], item["value"]) == ("pen", "eight", "thick")]
    inside = frame["pen"] == "thick"
    eights = (frame["digit"] == "eight").groupby(inside).mean()
    assert thick["measures"]["difference_in_label_proportions"] == pytest.approx(eights[False] - eights[True])
    assert thick["rows"] == inside.sum() and "kl_divergence" in thick["measures"]
    few = evaluate(model, frame.head(150), label="digit", protected=["pen"])
    assert {item["value"] for item in few.bias} <= {"thick", "thin"} and all(item["rows"] >= 100 for item in few.bias)
