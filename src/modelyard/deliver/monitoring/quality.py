"""Whether the model is as good on labelled live rows as when it was registered, and who says so."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from modelyard.deliver.monitoring import metrics
from modelyard.deliver.monitoring.metrics import Measured, worse_by
from modelyard.domain.monitors import QualityLimits
from modelyard.kit.scores import Z95

LEAST_LABELS = {"binary": 200, "multiclass": 100, "regression": 50}


@dataclass(frozen=True)
class ModelQuality:
    """A metric on labelled live rows against what was registered; `degraded` means beyond bound and noise."""

    metric: str
    value: float | None
    baseline: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    rows: int
    degraded: bool
    why: str
    also: dict[str, float]

    def as_result(self) -> dict[str, Any]:
        return asdict(self)


def check_model(
    labels: Any,
    predictions: Any,
    baseline: dict[str, float],
    errors: dict[str, float],
    limits: QualityLimits,
    task: str = "binary",
    primary: str = "",
) -> ModelQuality:
    """The model's metrics on labelled rows against its registered evaluation.

    labels, predictions: shape (rows,). Degraded when the primary metric, or one in `limits.metrics`, is worse by more
    than `max_regression` and by more than 1.96 joint standard errors. The rest is reported and does not decide.
    """
    labels, predictions = metrics.as_floats(labels), metrics.as_floats(predictions)
    metric = primary or metrics.PRIMARY[task]
    rows, registered = len(labels), baseline.get(metric)
    measured = metrics.measure(task, labels, predictions) if rows >= LEAST_LABELS[task] else Measured({}, {})
    value = measured.metrics.get(metric)
    if value is None or registered is None:
        why = f"{rows} labelled rows: too few to judge {metric}"
        if task == "binary":
            why = f"{rows} labelled rows, {int(labels.sum())} of them positive: too few to judge {metric}"
        if registered is None and value is not None:
            why = f"{metric} {value:.3f}; the registered evaluation has no {metric} to compare with"
        return ModelQuality(metric, value, registered, None, None, None, rows, False, why, measured.metrics)
    judged = {name: _judge(name, measured, baseline, errors, limits) for name in [metric, *limits.metrics]}
    worst = next((why for degraded, why in judged.values() if degraded), judged[metric][1])
    degraded = any(found for found, _ in judged.values())
    error = measured.errors.get(metric, 0.0)
    also = {name: held for name, held in measured.metrics.items() if name != metric}
    low, high = value - Z95 * error, value + Z95 * error
    return ModelQuality(metric, value, registered, error, low, high, rows, degraded, worst, also)


def _judge(
    name: str, measured: Measured, baseline: dict[str, float], errors: dict[str, float], limits: QualityLimits
) -> tuple[bool, str]:
    value, registered = measured.metrics.get(name), baseline.get(name)
    if value is None or registered is None:
        return False, f"{name} is not known on both sides"
    noise = Z95 * float(np.hypot(measured.errors.get(name, 0.0), errors.get(name, 0.0)))
    worse = worse_by(name, value, registered)
    verb = "fell" if value < registered else "rose"
    why = f"{name} {verb} by {abs(value - registered):.3f} from {registered:.3f} to {value:.3f} (noise ±{noise:.3f})"
    return worse > limits.max_regression and worse > noise, why
