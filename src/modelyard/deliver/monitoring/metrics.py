"""A model's metrics on labelled rows with standard errors, by task."""

from typing import Any

import numpy as np

from modelyard.deliver.monitoring.sketches import Floats
from modelyard.domain.metrics import PRIMARY as PRIMARY
from modelyard.domain.metrics import lower_is_better
from modelyard.kit import scores
from modelyard.kit.scores import Measured as Measured

LEAST_OF_A_CLASS = 20


def worse_by(metric: str, value: float, baseline: float) -> float:
    """How much worse a value is than its baseline; negative when it is better."""
    return value - baseline if lower_is_better(metric) else baseline - value


def measure(task: str, labels: Any, predictions: Any) -> Measured:
    """The metrics of a task whose rows stand alone. labels: shape (rows,); predictions: probabilities of class 1,
    classes of the labels' type, or numbers.

    An area under the curve is told from LEAST_OF_A_CLASS rows of each class on.
    """
    if task != "binary":
        return (scores.multiclass if task == "multiclass" else scores.regression)(labels, predictions)
    found = scores.binary(labels, predictions)
    positives = int(labels.sum())
    if min(positives, len(labels) - positives) < LEAST_OF_A_CLASS:
        few = ("roc_auc", "average_precision")
        return Measured(*({name: value for name, value in part.items() if name not in few} for part in found))
    return found


def losses(task: str, labels: Any, predictions: Any) -> Floats:
    """One loss a row, whose mean over a group tells how the model does there: squared or absolute error, 0 or 1."""
    if task == "multiclass":
        return (labels != predictions).astype(float)
    return (predictions - labels) ** 2 if task == "binary" else np.abs(predictions - labels)
