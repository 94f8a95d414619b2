"""A model's metrics on labelled rows with standard errors, by task."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from modelyard.deliver.monitoring.sketches import Floats
from modelyard.kit.ranking import auc_standard_error, roc_auc

LOWER_IS_BETTER = frozenset({"brier", "log_loss", "rmse", "mae", "mse", "mape"})
PRIMARY = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "rmse"}
LEAST_OF_A_CLASS = 20


@dataclass(frozen=True)
class Measured:
    """Metrics by name and the standard errors of those that have one."""

    metrics: dict[str, float]
    errors: dict[str, float]


def worse_by(metric: str, value: float, baseline: float) -> float:
    """How much worse a value is than its baseline; negative when it is better."""
    return value - baseline if metric in LOWER_IS_BETTER or metric.startswith("latency") else baseline - value


def measure(task: str, labels: Floats, predictions: Floats) -> Measured:
    """The metrics of a task. labels: shape (rows,); predictions: probabilities of class 1, classes, or numbers."""
    if task == "binary":
        return _binary(labels, predictions)
    if task == "multiclass":
        right = labels == predictions
        return Measured({"accuracy": float(right.mean())}, {"accuracy": _mean_error(right.astype(float))})
    return _regression(labels, predictions)


def losses(task: str, labels: Floats, predictions: Floats) -> Floats:
    """One loss a row, whose mean over a group tells how the model does there: squared or absolute error, 0 or 1."""
    if task == "multiclass":
        return (labels != predictions).astype(float)
    return (predictions - labels) ** 2 if task == "binary" else np.abs(predictions - labels)


def _mean_error(values: Floats) -> float:
    return float(values.std() / np.sqrt(max(len(values), 1)))


def _binary(labels: Floats, scores: Floats) -> Measured:
    """Standard error of the AUC by Hanley and McNeil (1982), of the others as of means."""
    rows, positives = len(labels), int(labels.sum())
    squares = (scores - labels) ** 2
    clipped = np.clip(scores, 1e-15, 1 - 1e-15)
    logs = -(labels * np.log(clipped) + (1 - labels) * np.log(1 - clipped))
    right = ((scores >= 0.5) == (labels == 1)).astype(float)
    found = {"brier": squares, "log_loss": logs, "accuracy": right}
    metrics = {name: float(values.mean()) for name, values in found.items()}
    errors = {name: _mean_error(values) for name, values in found.items()}
    metrics["base_rate"] = float(labels.mean())
    if min(positives, rows - positives) >= LEAST_OF_A_CLASS:
        metrics["roc_auc"] = roc_auc(labels, scores)
        errors["roc_auc"] = auc_standard_error(metrics["roc_auc"], positives, rows - positives)
    return Measured(metrics, errors)


def _regression(labels: Floats, predictions: Floats) -> Measured:
    """Standard errors of means; of the root of a mean by the delta method."""
    off = predictions - labels
    squares = off**2
    rmse = float(np.sqrt(squares.mean()))
    spread = float(labels.var())
    metrics = {"rmse": rmse, "mae": float(np.abs(off).mean()), "bias": float(off.mean())}
    errors = {"mae": _mean_error(np.abs(off)), "bias": _mean_error(off)}
    errors["rmse"] = _mean_error(squares) / (2 * rmse) if rmse else 0.0
    if spread:
        metrics["r2"] = 1 - rmse**2 / spread
    return Measured(metrics, errors)


def as_floats(values: Any) -> Floats:
    """Labels or predictions as floats."""
    return np.asarray(values, dtype=np.float64)
