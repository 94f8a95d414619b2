"""Evaluations by task: what is measured, against whom, and what is refused."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from modelyard import steps
from modelyard.build.pipelines import evaluation as core
from modelyard.build.pipelines.evaluation import LEAST_GROUP
from modelyard.domain.errors import Invalid
from tests.unit.steps.test_training import OTHERS, people


class Column:
    """Predicts what stands in one column."""

    feature_names_in_ = np.array(["said"])

    def predict(self, rows: pd.DataFrame) -> Any:
        return rows["said"].to_numpy()


def test_a_ranking_is_judged_within_its_queries():
    rows = pd.DataFrame({"query": ["a"] * 3 + ["b"] * 3, "said": [3, 2, 1, 1, 2, 3], "label": [1, 0, 0, 1, 0, 0]})
    found = steps.evaluate(Column(), rows, target="label", task="ranking", query="query")
    assert found.metrics["mrr"] == pytest.approx((1 + 1 / 3) / 2)
    assert found.standard_errors["mrr"] > 0
    with pytest.raises(Invalid, match="query="):
        steps.evaluate(Column(), rows, target="label", task="ranking")


def test_a_forecast_is_scaled_by_each_series_history():
    history = pd.DataFrame({"store": ["a"] * 4 + ["b"] * 4, "sales": [1.0, 2, 3, 4, 10, 20, 30, 40]})
    rows = pd.DataFrame(
        {"store": ["a", "b"], "sales": [5.0, 50.0], "said": [4.0, 40.0], "low": [4.0, 45.0], "high": [6.0, 49.0]}
    )
    found = steps.evaluate(
        Column(),
        rows,
        target="sales",
        task="forecasting",
        series="store",
        history=history,
        quantiles={0.1: "low", 0.9: "high"},
    )
    assert found.metrics["mase"] == pytest.approx(1.0)
    assert found.metrics["coverage"] == 0.5 and found.metrics["mae"] == 5.5
    assert "pinball" in found.metrics and found.how["features"] == ["said"]


@pytest.mark.parametrize(
    ("target", "metric"), [("late", "equal_opportunity_ratio"), ("band", "accuracy_ratio"), ("spent", "mae_ratio")]
)
def test_fairness_of_every_task_compares_large_groups(target: str, metric: str):
    rows = people(1200)
    learn, test = steps.split(rows, test=0.5)
    model = steps.train(learn, target=target, estimator="linear", drop=OTHERS[target])
    found = steps.evaluate(model, test, target=target, protected=["plan"])
    assert min(part["rows"] for part in found.slices) >= LEAST_GROUP
    assert 0 < found.metrics[f"{metric}/plan"] <= 1


def test_numbers_are_sliced_by_quartile_and_missing_values_are_a_group():
    rows = people(400)
    model = steps.train(rows, target="late", estimator="linear", drop=OTHERS["late"])
    found = steps.evaluate(model, rows, target="late", slices=["age"])
    assert len(found.slices) == 5 and "missing" in {part["value"] for part in found.slices}
    assert sum(part["rows"] for part in found.slices) == 400


@pytest.mark.parametrize(("target", "metric"), [("late", "roc_auc"), ("band", "accuracy"), ("spent", "mae")])
def test_two_models_are_compared_on_the_same_rows(target: str, metric: str):
    learn, test = steps.split(people(1500), test=0.5)
    better = steps.train(learn, target=target, estimator="linear", drop=OTHERS[target])
    worse = steps.train(learn, target=target, estimator="baseline", drop=OTHERS[target])
    found = steps.compare(better, worse, test, target)[metric]
    assert found["low"] <= found["value"] <= found["high"]
    assert (found["high"] < 0) if metric == "mae" else (found["low"] > 0)
    same = steps.compare(better, better, test, target)[metric]
    assert same == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_labels_that_the_model_does_not_know_are_named():
    rows = people()
    model = steps.train(rows, target="late", estimator="linear", drop=OTHERS["late"])
    with pytest.raises(Invalid, match="'maybe' is no class"):
        steps.evaluate(model, rows.assign(late="maybe"), target="late")
    with pytest.raises(Invalid, match="labels are missing"):
        steps.evaluate(model, rows.assign(late=None), target="late")
    with pytest.raises(Invalid, match="no column 'churned'"):
        steps.evaluate(model, rows, target="churned")
    with pytest.raises(Invalid, match="no rows"):
        steps.evaluate(model, rows.head(0), target="late")
    with pytest.raises(Invalid, match="binary, multiclass"):
        steps.evaluate(model, rows, target="late", task="classification")


def test_plots_are_drawn_from_what_the_evaluation_keeps():
    pytest.importorskip("matplotlib")
    rows = people()
    wanted = {"late": {"roc", "precision_recall", "calibration"}, "band": {"confusion"}, "spent": {"residuals"}}
    for target, names in wanted.items():
        model = steps.train(rows, target=target, estimator="linear", drop=OTHERS[target])
        drawn = steps.plots(steps.evaluate(model, rows, target=target))
        assert set(drawn) == names
        assert all(text.lstrip().startswith("<?xml") and "</svg>" in text for text in drawn.values())


def test_evaluating_a_regression_agrees_with_yard_evaluate():
    rows = people()[["age", "spent"]].dropna()
    model = LinearRegression().fit(rows[["age"]], rows["spent"])
    first, second = (steps.evaluate(model, rows, target="spent"), core.evaluate(model, rows, label="spent"))
    assert {k: v for k, v in first.metrics.items() if "latency" not in k} == {
        k: v for k, v in second.metrics.items() if "latency" not in k
    }
