"""What is compared of labels and predictions, by task, and what is told of classes before labels come."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from modelyard.deliver.monitoring import bias, labelled, watch
from modelyard.deliver.monitoring.reference import sketch_table
from modelyard.deliver.monitoring.tables import MemoryTable
from modelyard.domain.monitors import BiasLimits, Monitor, Window
from modelyard.kit.classes import class_or_number, class_text

NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])


@pytest.fixture(scope="module")
def answered() -> dict[str, Any]:
    """A model's answers on digits that it was not trained on: inputs, classes by name, probabilities, the truth."""
    rows, target = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=2000, C=0.0001).fit(rows[:600], NAMES[target[:600]])
    chances, held = model.predict_proba(rows[600:]), rows[600:]
    columns: dict[str, Any] = {f"pixel{number}": held[:, number] for number in (20, 21, 28, 36, 42)}
    columns |= {"prediction": pa.array(model.predict(held)), "probabilities": pa.array(list(chances))}
    columns["prediction.confidence"] = chances.max(axis=1)
    return {**columns, "label": pa.array(NAMES[target[600:]]), "classes": tuple(model.classes_.tolist())}


def part(table: dict[str, Any], rows: Any) -> dict[str, Any]:
    return {name: pa.array(values).take(pa.array(rows)) for name, values in table.items() if name != "classes"}


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "macro_f1", "balanced_accuracy"])
def test_what_several_classes_are_worth_is_told_before_their_labels(answered: dict[str, Any], metric: str) -> None:
    order = np.random.default_rng(2).permutation(
        1197
    )  # the last digits are of writers that the first ones are not of
    first, second = order[:900], order[900:]
    declared = Monitor(window=Window(rows=290))
    held = watch.prepare(
        declared, 1, pa.table(part(answered, first)), {}, task="multiclass", classes=answered["classes"]
    )
    window = part(answered, second)
    sketch = sketch_table(held.reference, MemoryTable(window))
    assert held.calibration is not None and not isinstance(held.calibration, watch.Calibration)
    told = held.calibration.estimate(metric, sketch)
    measured = labelled.of(pa.table(window), "multiclass", {}, answered["classes"]).measure().metrics[metric]
    assert told is not None and told.low < measured < told.high
    assert told.value == pytest.approx(measured, abs=0.15)
    assert held.reference.importance["prediction"] == held.reference.importance["prediction.confidence"] > 0


def test_labels_of_two_classes_may_be_names_or_numbers() -> None:
    table = pa.table({"prediction": [0.9, 0.2, 0.7, 0.1, 0.5], "label": ["bad", "good", "1", "what", None]})
    found = labelled.of(table, "binary", {}, ("good", "bad"))
    assert found.labels.tolist() == [1.0, 0.0, 1.0] and found.predictions.tolist() == [0.9, 0.2, 0.7]
    assert (found.left_out, found.example) == (1, "what")


def test_a_class_is_the_same_whatever_it_was_sent_as() -> None:
    assert [class_text(value) for value in (2, 2.0, np.int64(2), "2", True, 0.5)] == [
        "2",
        "2",
        "2",
        "2",
        "true",
        "0.5",
    ]
    assert [class_or_number(text) for text in ("true", "2", "1e3", "007", "setosa", "inf")] == [
        *(1.0, 2.0, 1000.0),
        *("007", "setosa", "inf"),
    ]
    numbers = labelled.of(pa.table({"prediction": [1.0, 2.0], "label": ["1", "3"]}), "multiclass", {})
    assert numbers.measure().metrics["accuracy"] == 0.5


def test_the_group_is_sent_with_the_label_or_an_input_or_the_request() -> None:
    held = {"prediction": [1.0] * 4, "label": [1.0] * 4, "prediction_id": ["r:0", "r:1", "s:0", "s:1"]}
    assert labelled.of(pa.table(held), "ranking", {}).groups.tolist() == ["r", "r", "s", "s"]
    inputs = {**held, "input.query": [7, 7, 7, 8]}
    assert labelled.of(pa.table(inputs), "ranking", {"query": "query"}).groups.tolist() == ["7", "7", "7", "8"]
    sent = {**inputs, "group": ["a", None, "a", None]}
    assert labelled.of(pa.table(sent), "ranking", {"query": "query"}).groups.tolist() == ["a", "7", "a", "8"]
    ahead = labelled.of(pa.table({**held, "input.store": ["x", "y", "x", "x"]}), "forecasting", {"series": "store"})
    assert ahead.horizons.tolist() == [1, 1, 1, 2]


def test_one_class_of_several_that_a_group_is_refused_is_named() -> None:
    random = np.random.default_rng(1)
    truth = NAMES[random.integers(0, 3, 3000)]
    group = np.where(random.random(3000) < 0.5, "a", "b")
    said = np.where((truth == "two") & (group == "b") & (random.random(3000) < 0.5), "zero", truth)
    limits = BiasLimits(min_ratio=0.8, max_quality_gap=0.2)
    found = bias.check_classes({"group": group}, said, truth, ["group"], limits)
    broken = {item.of: item.why for item in found if item.broken}
    assert "two" in broken and "b" in broken["two"] and "one" not in broken
    fair = bias.check_classes({"group": group}, truth, truth, ["group"], limits)
    assert len(fair) == 3 and not any(item.broken for item in fair)
    few = bias.check_classes({"group": group[:90]}, said[:90], truth[:90], ["group"], limits)
    assert all(item.skipped == 2 and not item.broken for item in few)
