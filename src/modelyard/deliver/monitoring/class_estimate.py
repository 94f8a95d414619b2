"""The quality of a classifier of several classes before labels come.

Accuracy and log loss are mean losses, told from all inputs (`losses`); the balanced measures come from what the
reference knows of each answer: how often it stood for which class. Like every estimate both are blind to a relation
that changes without inputs or answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelyard.deliver.monitoring import losses
from modelyard.deliver.monitoring.estimate import LEAST_ROWS, LEAST_WINDOWS, Estimate
from modelyard.deliver.monitoring.losses import LossModel
from modelyard.deliver.monitoring.reference import Reference
from modelyard.deliver.monitoring.sketches import Floats, NumericLayout, Sketch
from modelyard.kit.classes import class_text
from modelyard.kit.scores import Z95, log_losses, of_confusion

BALANCED = ("balanced_accuracy", "macro_f1")


@dataclass(frozen=True)
class ClassEstimate:
    """names: the classes; chances, shape (said, true): what an answer stood for; error: sd of past misses."""

    prediction: str
    mean_losses: LossModel
    names: list[str]
    chances: Floats
    error: dict[str, float]

    def estimate(self, metric: str, sketch: Sketch) -> Estimate | None:
        """The metric to expect of a window. None for a metric that is not told, and for too few rows."""
        if metric not in BALANCED:
            return self.mean_losses.estimate(metric, sketch)
        if sketch.rows < LEAST_ROWS:
            return None
        counts = np.array([_said(sketch, self.prediction).get(name, 0.0) for name in self.names])
        value = _balanced(self.chances, counts)[metric]
        margin = Z95 * self.error[metric]
        return Estimate(metric, value, max(0.0, value - margin), min(1.0, value + margin), int(sketch.rows))


def learn(
    reference: Reference,
    columns: Mapping[str, Any],
    prediction: str,
    labels: Any,
    said: Any,
    probabilities: Any,
    classes: tuple[str, ...],
    window_rows: int,
) -> ClassEstimate | None:
    """What a reference tells; None with too little to learn from. labels, said: classes as text, shape (rows,).

    The error is how far the rest of the reference missed what each of its windows showed.
    """
    by_row = {losses.WRONG: (labels != said).astype(float)}
    if probabilities is not None:
        by_row[losses.LOG] = log_losses(labels, probabilities, classes)
    mean_losses = losses.learn(reference, columns, by_row, window_rows)
    if mean_losses is None:
        return None
    names, codes = np.unique(np.concatenate([labels, said]), return_inverse=True)
    true, answered = codes[: len(labels)], codes[len(labels) :]
    chances = _chances(true, answered, len(names))
    length = min(window_rows, max(LEAST_ROWS, len(labels) // LEAST_WINDOWS))
    misses: dict[str, list[float]] = {metric: [] for metric in BALANCED}
    for start in range(0, max(1, len(labels) - length + 1), length):
        window = np.zeros(len(labels), bool)
        window[start : start + length] = True
        counts = np.bincount(answered[window], minlength=len(names)).astype(float)
        others = ~window if not window.all() else window
        told = _balanced(_chances(true[others], answered[others], len(names)), counts)
        measured = _balanced(_chances(true[window], answered[window], len(names)), counts)
        for metric in BALANCED:
            misses[metric].append(told[metric] - measured[metric])
    error = {metric: float(np.sqrt(np.mean(np.square(found)))) for metric, found in misses.items()}
    return ClassEstimate(prediction, mean_losses, names.tolist(), chances, error)


def _chances(true: Any, answered: Any, count: int) -> Floats:
    """For each answer the share of each true class, shape (said, true); zeros for what was never answered."""
    pairs = np.bincount(answered * count + true, minlength=count * count).reshape(count, count).astype(float)
    return pairs / np.maximum(pairs.sum(axis=1, keepdims=True), 1)


def _balanced(chances: Floats, counts: Floats) -> dict[str, float]:
    """{balanced_accuracy, macro_f1} when the answers came so often, each meaning what it meant in the reference."""
    confusion = (chances * counts[:, None]).T[None]
    return {name: float(values[0]) for name, values in zip(BALANCED, of_confusion(confusion), strict=True)}


def _said(sketch: Sketch, prediction: str) -> dict[str, float]:
    """How often each class was answered in a window."""
    layout, counts = sketch.layout.columns[prediction], sketch.counted(prediction).astype(float)
    if isinstance(layout, NumericLayout):
        named = [class_text(float(edge)) for edge in layout.edges]
        return dict(zip(named, np.diff(counts, prepend=0.0).tolist(), strict=True))
    return dict(zip(layout.names, counts[:-1].tolist(), strict=True))
