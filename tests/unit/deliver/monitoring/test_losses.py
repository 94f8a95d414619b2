"""The loss of a regression is told from a window's sketch before its labels come."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modelyard.deliver.monitoring import losses, monitor, watch
from modelyard.deliver.monitoring.kinds import ALERT, OK, WARNING
from modelyard.deliver.monitoring.reference import prepare, sketch_table
from modelyard.deliver.monitoring.tables import MemoryTable
from modelyard.domain.monitors import Monitor, QualityLimits, Window


def lived(rows: int, seed: int, hard: float = 0.3) -> dict[str, Any]:
    """A model that is ten times as wrong on `kind` b, which has a share of `hard`, and worse for a large x."""
    random = np.random.default_rng(seed)
    kind = random.random(rows) < hard
    x = random.normal(size=rows)
    label = 3 * x + random.normal(size=rows) * np.where(kind, 2.0, 0.2) * np.exp(x / 4)
    known = pa.array(["b" if value else "a" for value in kind])
    return {"x": np.where(random.random(rows) < 0.1, np.nan, x), "kind": known, "prediction": 3 * x, "label": label}


def inputs(table: dict[str, Any]) -> MemoryTable:
    return MemoryTable({name: values for name, values in table.items() if name != "label"})


@pytest.mark.parametrize("metric", ["mae", "rmse", "mse"])
@pytest.mark.parametrize("hard", [0.05, 0.3, 0.8])
def test_the_estimate_is_right_while_the_relation_stays(metric: str, hard: float) -> None:
    held = lived(20_000, 1)
    reference = prepare(inputs(held))
    model = losses.learn(reference, held, losses.of_numbers(held["label"], held["prediction"]), 2000)
    assert model is not None
    window = lived(4000, 2, hard)
    told = model.estimate(metric, sketch_table(reference, inputs(window)))
    assert told is not None
    off = np.abs(window["label"] - window["prediction"])
    measured = {"mae": off.mean(), "mse": (off**2).mean(), "rmse": np.sqrt((off**2).mean())}[metric]
    assert told.value == pytest.approx(measured, rel=0.2)
    assert told.low < measured < told.high or hard != 0.3


def test_the_mean_over_rows_is_what_their_sketch_says() -> None:
    held = lived(5000, 3)
    reference = prepare(inputs(held))
    model = losses.learn(reference, held, losses.of_numbers(held["label"], held["prediction"]), 1000)
    assert model is not None
    told = model.estimate("mae", sketch_table(reference, inputs(held)))
    off = np.abs(held["label"] - held["prediction"])
    assert told is not None and told.value == pytest.approx(off.mean(), rel=0.01)


def test_too_few_rows_and_other_metrics_are_not_told() -> None:
    held = lived(5000, 4)
    reference = prepare(inputs(held))
    few = lived(150, 5)
    model = losses.learn(reference, held, losses.of_numbers(held["label"], held["prediction"]), 1000)
    assert (
        model is not None
        and losses.learn(reference, few, losses.of_numbers(few["label"], few["prediction"]), 100) is None
    )
    assert model.estimate("r2", sketch_table(reference, inputs(held))) is None
    assert model.estimate("mae", sketch_table(reference, inputs(few))) is None


@pytest.mark.parametrize(("hard", "verdicts"), [(0.3, {OK}), (0.9, {ALERT, WARNING})])
def test_a_loss_is_told_before_labels_come(hard: float, verdicts: set[str]) -> None:
    held = lived(20_000, 6)
    off = held["label"] - held["prediction"]
    baseline = {"metrics": {"rmse": float(np.sqrt((off**2).mean()))}}
    declared = Monitor(window=Window(rows=2000), model_quality=QualityLimits(max_regression=0.2))
    watching = watch.prepare(declared, 1, held, baseline, task="regression")
    live = lived(2000, 7, hard)
    cell = monitor.Cell.empty(1, 1, watching.reference.layout)
    cell.sketch, cell.rows = sketch_table(watching.reference, inputs(live)), 2000
    found = monitor.judge_estimate(watching, cell)
    assert found is not None and found.verdict in verdicts
