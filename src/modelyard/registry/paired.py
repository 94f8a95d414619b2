"""Two versions on the same labelled rows: the difference of each metric, with its uncertainty.

Run as a process of its own (`python -m modelyard.registry.paired FIRST SECOND`, Parquet files with `label` and
`prediction`), so that the server needs no numpy; it prints JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

from modelyard.kit.calibration import shares_of_calibration_error
from modelyard.kit.scores import SEED, interval

DRAWS = 200


def compare_files(first: Path, second: Path) -> dict[str, Any]:
    """{"rows", "differences": {metric: {"value", "low", "high"}}} of second - first, or {"reason"} in words."""
    import pyarrow.parquet as parquet  # late: this process only

    frames = [parquet.read_table(file) for file in (first, second)]
    for frame in frames:
        if not {"label", "prediction"} <= set(frame.column_names):
            return {"reason": "a version's stored rows have no label and prediction"}
    labels = [frame.column("label").to_numpy() for frame in frames]
    if len(labels[0]) != len(labels[1]) or (labels[0] != labels[1]).any():
        return {"reason": "the stored rows are not the same"}
    predictions = [frame.column("prediction").to_numpy() for frame in frames]
    if all(item.dtype.kind in "OUT" for item in (labels[0], *predictions)):
        right = [(labels[0] == said).astype(float) for said in predictions]
        return {"rows": len(labels[0]), "differences": {"accuracy": interval(*_mean_difference(*right))}}
    if any(item.dtype.kind not in "iufb" for item in (labels[0], *predictions)):
        return {"reason": "labels or predictions are not numbers"}
    return {"rows": len(labels[0]), "differences": differences(labels[0].astype(float), *predictions)}


def differences(label: Any, first: Any, second: Any) -> dict[str, dict[str, float]]:
    """Second - first on the same rows, with 95% intervals that use the pairing.

    label, first, second: shape (rows,). Labels of 0 and 1 with predictions between: roc_auc, brier, log_loss,
    accuracy, positive_rate, expected_calibration_error, average_precision; other labels: mae, mse, rmse, bias, r2,
    mape, median_absolute_error. Means over rows get the standard error of the mean difference, rmse and r2 by the
    delta method, roc_auc by DeLong, DeLong and Clarke-Pearson 1988; average_precision and the median that of DRAWS
    samples of the rows (Efron and Tibshirani 1993, ch. 6).
    """
    import numpy as np  # late: see above

    found: dict[str, tuple[float, float]] = {}
    if set(np.unique(label)) <= {0.0, 1.0} and all(0 <= p.min() and p.max() <= 1 for p in (first, second)):
        for name, loss in {
            "brier": _squares,
            "log_loss": _log_losses,
            "accuracy": _right,
            "positive_rate": _said,
            "expected_calibration_error": shares_of_calibration_error,
        }.items():
            found[name] = _mean_difference(loss(label, first), loss(label, second))
        if 1 < label.sum() < len(label) - 1:  # two of each side: one has no spread
            found["roc_auc"] = auc_difference(label, first, second)
            found["average_precision"] = _drawn_difference(_Precision(label, first), _Precision(label, second))
    else:
        found["mae"] = _mean_difference(abs(first - label), abs(second - label))
        found["mse"] = _mean_difference(_squares(label, first), _squares(label, second))
        found["rmse"] = _rmse_difference(_squares(label, first), _squares(label, second))
        found["bias"] = _mean_difference(first - label, second - label)
        found["median_absolute_error"] = _drawn_difference(_Median(abs(first - label)), _Median(abs(second - label)))
        if spread := float(label.var()):
            value, error = found["mse"]
            found["r2"] = -value / spread, error / spread
        if (label != 0).all():
            found["mape"] = _mean_difference(*(abs((side - label) / label) for side in (first, second)))
    return {name: interval(value, error) for name, (value, error) in found.items()}


def auc_difference(label: Any, first: Any, second: Any) -> tuple[float, float]:
    """(difference second - first of the areas under the ROC curve, its standard error), paired by DeLong's method."""
    import numpy as np  # late: see above

    positive = label == 1
    count, others = int(positive.sum()), int((~positive).sum())
    parts = [_placements(score[positive], score[~positive]) for score in (first, second)]
    areas = [float(above.mean()) for above, _ in parts]
    spread_above, spread_below = (np.cov(np.vstack([part[side] for part in parts])) for side in (0, 1))
    covariance = spread_above / count + spread_below / others
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return areas[1] - areas[0], float(max(variance, 0.0)) ** 0.5


def _placements(positives: Any, negatives: Any) -> tuple[Any, Any]:
    """For each positive the share of negatives below it, for each negative that of positives above; ties half."""
    import numpy as np  # late: see above

    low, high = np.sort(negatives), np.sort(positives)
    below = (np.searchsorted(low, positives, "left") + np.searchsorted(low, positives, "right")) / 2
    under = (np.searchsorted(high, negatives, "left") + np.searchsorted(high, negatives, "right")) / 2
    return below / len(negatives), 1 - under / len(positives)


def _mean_difference(first: Any, second: Any) -> tuple[float, float]:
    paired = second - first
    return float(paired.mean()), float(paired.std(ddof=1) / len(paired) ** 0.5) if len(paired) > 1 else 0.0


class _Precision:
    """The average precision of rows that count so and so often each: `scores.average_precision`, sorted once."""

    def __init__(self, label: Any, score: Any) -> None:
        import numpy as np  # late: see above

        self._order = np.argsort(-score, kind="stable")
        ordered = score[self._order]
        self._ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
        self._label = label[self._order]

    def __len__(self) -> int:
        return len(self._order)

    def __call__(self, counts: Any) -> float:
        import numpy as np  # late: see above

        held = counts[self._order]
        hits, rows = np.cumsum(held * self._label)[self._ends], np.cumsum(held)[self._ends]
        gained = np.diff(hits, prepend=0)
        return float((gained * hits / np.maximum(rows, 1)).sum() / max(hits[-1], 1))


class _Median:
    """The median of values that count so and so often each."""

    def __init__(self, values: Any) -> None:
        import numpy as np  # late: see above

        self._order = np.argsort(values, kind="stable")
        self._values = values[self._order]

    def __len__(self) -> int:
        return len(self._order)

    def __call__(self, counts: Any) -> float:
        import numpy as np  # late: see above

        reached = np.cumsum(counts[self._order])
        middle = np.searchsorted(reached, [reached[-1] // 2, (reached[-1] - 1) // 2], side="right")
        return float(self._values[middle].mean())


def _drawn_difference(first: Any, second: Any) -> tuple[float, float]:
    """(difference, its standard error) of a statistic that takes how often each row counts."""
    import numpy as np  # late: see above

    rows = len(first)
    every, random = np.ones(rows, dtype=np.int64), np.random.default_rng(SEED)
    drawn: list[float] = []
    for _ in range(DRAWS):
        counts = np.bincount(random.integers(rows, size=rows), minlength=rows)
        drawn.append(second(counts) - first(counts))
    return second(every) - first(every), float(np.std(drawn))


def _rmse_difference(first: Any, second: Any) -> tuple[float, float]:
    """The delta method on paired rows: d(rmse) = d(mse) / (2 rmse)."""
    roots = [float(squares.mean()) ** 0.5 for squares in (first, second)]
    if min(roots) == 0:
        return roots[1] - roots[0], 0.0
    paired = second / (2 * roots[1]) - first / (2 * roots[0])
    return roots[1] - roots[0], float(paired.std(ddof=1) / len(paired) ** 0.5)


def _squares(label: Any, prediction: Any) -> Any:
    return (prediction - label) ** 2


def _log_losses(label: Any, prediction: Any) -> Any:
    import numpy as np  # late: see above

    held = np.clip(prediction, 1e-15, 1 - 1e-15)
    return -(label * np.log(held) + (1 - label) * np.log(1 - held))


def _said(_: Any, prediction: Any) -> Any:
    return (prediction >= 0.5).astype(float)


def _right(label: Any, prediction: Any) -> Any:
    return ((prediction >= 0.5) == (label == 1)).astype(float)


if __name__ == "__main__":
    print(json.dumps(compare_files(Path(sys.argv[1]), Path(sys.argv[2]))))
