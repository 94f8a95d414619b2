"""Whether the model is as good on labelled live rows as when it was registered, and who says so."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from modelyard.deliver.monitoring import metrics
from modelyard.deliver.monitoring.labelled import Labelled
from modelyard.deliver.monitoring.metrics import Measured, worse_by
from modelyard.domain.monitors import QualityLimits
from modelyard.kit.scores import Z95, interval

LEAST_LABELS = {"binary": 200, "multiclass": 100, "regression": 50, "ranking": 50, "forecasting": 50}
LEAST_QUERIES = 20
"""With an item that is relevant: a mean over fewer of them says little."""


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
    intervals: dict[str, dict[str, float]]
    """Every metric with its 95% interval: {value, low, high}."""

    def as_result(self) -> dict[str, Any]:
        return asdict(self)

    def as_baseline(self) -> dict[str, Any]:
        """What later windows are judged by where these rows are the first: {metrics, standard_errors, against}."""
        errors = {name: (held["high"] - held["low"]) / (2 * Z95) for name, held in self.intervals.items()}
        own = {self.metric: self.value} if self.value is not None else {}
        return {"metrics": {**self.also, **own}, "standard_errors": errors, "against": "its first labelled window"}


def check_model(
    held: Labelled, baseline: dict[str, float], errors: dict[str, float], limits: QualityLimits, primary: str = ""
) -> ModelQuality:
    """The model's metrics on labelled rows against its registered evaluation.

    Degraded when the primary metric, or one in `limits.metrics`, is worse by more
    than `max_regression` and by more than 1.96 joint standard errors. The rest is reported and does not decide.
    """
    metric = primary or metrics.PRIMARY[held.task]
    rows, registered = held.rows, baseline.get(metric)
    measured = held.measure() if _enough(held) else Measured({}, {})
    intervals = {
        name: interval(found, measured.errors[name])
        for name, found in measured.metrics.items()
        if name in measured.errors
    }
    value = measured.metrics.get(metric)
    if value is None or registered is None:
        why = f"{rows} labelled rows: too few to judge {metric}"
        if held.task == "binary":
            why = f"{rows} labelled rows, {int(held.labels.sum())} of them positive: too few to judge {metric}"
        if held.task == "ranking":
            why = f"{rows} labelled rows of {_queries(held)} queries with a relevant item: too few to judge {metric}"
        if registered is None and value is not None:
            why = f"{metric} {value:.3f}; the registered evaluation has no {metric} to compare with"
        return ModelQuality(
            metric, value, registered, None, None, None, rows, False, why, measured.metrics, intervals
        )
    judged = {name: _judge(name, measured, baseline, errors, limits) for name in [metric, *limits.metrics]}
    worst = next((why for degraded, why in judged.values() if degraded), judged[metric][1])
    degraded = any(found for found, _ in judged.values())
    error = measured.errors.get(metric, 0.0)
    also = {name: found for name, found in measured.metrics.items() if name != metric}
    low, high = value - Z95 * error, value + Z95 * error
    return ModelQuality(metric, value, registered, error, low, high, rows, degraded, worst, also, intervals)


def _enough(held: Labelled) -> bool:
    return held.rows >= LEAST_LABELS[held.task] and (held.task != "ranking" or _queries(held) >= LEAST_QUERIES)


def _queries(held: Labelled) -> int:
    """How many queries have an item that is relevant."""
    return len(np.unique(held.groups[held.labels > 0]))


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
