"""Quality before labels come: what a calibrated score says of itself, with the uncertainty that it had before.

For two classes the reference tells how often each score was right; applied to the window's scores this gives the
expected labels, and from them the expected metrics (confidence-based performance estimation). It is blind to a change
of the relation between inputs and labels: its record against labels that came later says how far to trust it.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from modelyard.deliver.monitoring.sketches import Floats
from modelyard.kit.ranking import auc_standard_error
from modelyard.kit.scores import Z95

CALIBRATION_BINS = 25
LEAST_ROWS = 200
LEAST_WINDOWS = 8


@dataclass(frozen=True)
class Estimate:
    """An expected metric: value, 95% interval (sampling and, where known, the estimate's own error), rows."""

    metric: str
    value: float
    low: float
    high: float
    rows: int

    def as_wire(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Calibration:
    """How often the label was 1 by score: scores ascending and shares, shape (bins,); `error`: sd of past misses."""

    scores: Floats
    shares: Floats
    error: dict[str, float]

    def probability(self, scores: Floats) -> Floats:
        return np.interp(scores, self.scores, self.shares)


def calibrate(scores: Floats, labels: Floats, window_rows: int) -> Calibration | None:
    """The calibration of a reference, monotone (pool adjacent violators); None with too little to learn from.

    Its error is how far estimates missed the metrics measured on the reference's own windows, each of `window_rows`
    rows (or shorter ones when there are too few, which errs on the side of a wider interval).
    """
    known = ~(np.isnan(scores) | np.isnan(labels))
    scores, labels = scores[known], labels[known]
    if len(scores) < LEAST_ROWS or labels.min() == labels.max() or scores.min() < 0 or scores.max() > 1:
        return None
    order = np.argsort(scores, kind="stable")
    groups = np.array_split(order, min(CALIBRATION_BINS, len(order) // 20))
    centres = np.array([scores[group].mean() for group in groups])
    shares = _monotone(np.array([labels[group].mean() for group in groups]), np.array([len(g) for g in groups]))
    made = Calibration(centres, shares, {})
    length = min(window_rows, max(LEAST_ROWS, len(scores) // LEAST_WINDOWS))
    misses: dict[str, list[float]] = {}
    for start in range(0, len(scores) - length + 1, length):
        part = slice(start, start + length)
        expected = expected_metrics(scores[part], made.probability(scores[part]))
        measured = expected_metrics(scores[part], labels[part])
        for name in set(expected) & set(measured):
            misses.setdefault(name, []).append(expected[name] - measured[name])
    error = {name: float(np.sqrt(np.mean(np.square(found)))) for name, found in misses.items()}
    return Calibration(centres, shares, error)


def _monotone(shares: Floats, weights: Floats) -> Floats:
    """The nearest non-decreasing shares, by pooling adjacent violators (Ayer et al. 1955)."""
    blocks: list[tuple[float, float, int]] = []
    for share, weight in zip(shares.tolist(), weights.tolist(), strict=True):
        blocks.append((share, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, first, m), (b, second, n) = blocks[-2:]
            blocks[-2:] = [((a * first + b * second) / (first + second), first + second, m + n)]
    return np.concatenate([np.full(count, share) for share, _, count in blocks])


def expected_metrics(scores: Floats, probability: Floats, weights: Floats | None = None) -> dict[str, float]:
    """roc_auc, accuracy (at 0.5), brier, log_loss when the label of row i is 1 with chance probability[i].

    scores, probability: shape (rows,); weights: how many rows each stands for. With labels 0 and 1 as probabilities
    these are the measured metrics themselves.
    """
    held = np.ones(len(scores)) if weights is None else weights
    total = held.sum()
    if not total:
        return {}
    clipped = np.clip(scores, 1e-15, 1 - 1e-15)
    right = np.where(scores >= 0.5, probability, 1 - probability)
    squares = probability * (1 - scores) ** 2 + (1 - probability) * scores**2
    losses = -(probability * np.log(clipped) + (1 - probability) * np.log(1 - clipped))
    found = {
        "accuracy": float((right * held).sum() / total),
        "brier": float((squares * held).sum() / total),
        "log_loss": float((losses * held).sum() / total),
    }
    positives, negatives = probability * held, (1 - probability) * held
    if positives.sum() > 0 and negatives.sum() > 0:
        found["roc_auc"] = _expected_auc(scores, positives, negatives)
    return found


def _expected_auc(scores: Floats, positives: Floats, negatives: Floats) -> float:
    values, group = np.unique(scores, return_inverse=True)
    ups = np.bincount(group, positives, len(values))
    downs = np.bincount(group, negatives, len(values))
    below = np.cumsum(downs) - downs
    return float((ups * (below + downs / 2)).sum() / (ups.sum() * downs.sum()))


def of_scores(calibration: Calibration, metric: str, scores: Floats, weights: Floats) -> Estimate | None:
    """The expected metric of a window. scores: distinct values, weights: rows of each. None for too few rows."""
    rows = int(weights.sum())
    probability = calibration.probability(scores)
    expected = expected_metrics(scores, probability, weights)
    if rows < LEAST_ROWS or metric not in expected:
        return None
    value = expected[metric]
    error = calibration.error.get(metric, 0.0)
    margin = Z95 * float(np.hypot(error, _sampling_error(metric, value, probability, weights)))
    return Estimate(metric, value, value - margin, value + margin, rows)


def _sampling_error(metric: str, value: float, probability: Floats, weights: Floats) -> float:
    rows = float(weights.sum())
    if metric == "roc_auc":
        positives = max(1, int((probability * weights).sum()))
        return auc_standard_error(value, positives, max(1, int(rows) - positives))
    return float(np.sqrt(max(value * (1 - value), 1e-4) / rows))


def record(past: list[dict[str, Any]]) -> dict[str, Any]:
    """How right estimates have been: {windows, hits, mean_error} over results that hold both, newest first."""
    judged = [item for item in past if item.get("estimate") and item.get("value") is not None]
    if not judged:
        return {"windows": 0, "hits": 0, "mean_error": None}
    hits = sum(item["estimate"]["low"] <= item["value"] <= item["estimate"]["high"] for item in judged)
    misses = [abs(item["estimate"]["value"] - item["value"]) for item in judged]
    return {"windows": len(judged), "hits": int(hits), "mean_error": float(np.mean(misses))}


def trusted(past: dict[str, Any]) -> bool:
    """Whether estimates may open an alert: they may until half of at least four were wrong."""
    return past["windows"] < 4 or past["hits"] * 2 > past["windows"]
