"""A model's mean loss before labels come: learnt on the reference from all inputs, told from a window's sketch.

Direct loss estimation: a second model predicts how far the first one is off. It is additive over bins of each column,
so that its mean over a window needs only the shares of the bins, which a sketch has; no row is read again. Like every
estimate it is blind to a relation that changes without the inputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelyard.deliver.monitoring.categories import category_text
from modelyard.deliver.monitoring.columns import COUNTED, as_arrow, expand
from modelyard.deliver.monitoring.estimate import LEAST_ROWS, LEAST_WINDOWS, Estimate
from modelyard.deliver.monitoring.reference import Reference
from modelyard.deliver.monitoring.sketches import (
    MISSING,
    ROWS,
    CategoryLayout,
    Floats,
    Layout,
    NumericLayout,
    Sketch,
)
from modelyard.kit.scores import Z95

DECILES = np.linspace(0.1, 0.9, 9)
MOST_ROWS = 20_000
RIDGE = 10.0
"""In rows: a bin with fewer is pulled towards the mean loss."""
ABSOLUTE, SQUARED, WRONG, LOG = "absolute", "squared", "wrong", "log"
METRICS: dict[str, tuple[str, Callable[[float], float]]] = {
    "mae": (ABSOLUTE, lambda loss: loss),
    "mse": (SQUARED, lambda loss: loss),
    "rmse": (SQUARED, lambda loss: loss**0.5),
    "accuracy": (WRONG, lambda loss: 1 - min(loss, 1.0)),
    "log_loss": (LOG, lambda loss: loss),
}
"""By metric the loss whose mean it comes from, and how."""
BLOCKS = 5


@dataclass(frozen=True)
class LossModel:
    """cuts: positions among a column's edges; weights and mean by loss; error: sd of past misses, by metric."""

    cuts: dict[str, list[int]]
    mean: dict[str, float]
    weights: dict[str, Floats]
    error: dict[str, float]

    def estimate(self, metric: str, sketch: Sketch) -> Estimate | None:
        """The metric to expect of a window. None for a metric that is no mean loss, and for too few rows."""
        if metric not in self.error or sketch.rows < LEAST_ROWS:
            return None
        loss = METRICS[metric][0]
        value = _metric(metric, self.mean[loss] + float(_shares(sketch, self.cuts) @ self.weights[loss]))
        margin = Z95 * self.error[metric]
        high = min(1.0, value + margin) if metric == "accuracy" else value + margin
        return Estimate(metric, value, max(0.0, value - margin), high, int(sketch.rows))


def of_numbers(labels: Floats, predictions: Floats) -> dict[str, Floats]:
    """The losses of a regression, by name, each of shape (rows,)."""
    off = np.abs(predictions - labels)
    return {ABSOLUTE: off, SQUARED: off**2}


def learn(
    reference: Reference, columns: Mapping[str, Any], losses: Mapping[str, Floats], window_rows: int
) -> LossModel | None:
    """The loss model of a reference; None with too little to learn from. losses: by name, NaN where not known.

    Its error is how far it missed the losses of windows of the reference that it had not seen (in BLOCKS blocks).
    """
    known = np.flatnonzero(~np.isnan(sum(losses.values())))
    if len(known) < LEAST_ROWS:
        return None
    chosen = known[np.linspace(0, len(known) - 1, min(len(known), MOST_ROWS)).astype(int)]
    cuts = _cuts(reference)
    rows = _design(reference, cuts, columns)[chosen]
    kept = {name: loss[chosen] for name, loss in losses.items()}
    mean = {name: float(loss.mean()) for name, loss in kept.items()}
    weights = {name: _ridge(rows, loss) for name, loss in kept.items()}
    return LossModel(cuts, mean, weights, _errors(rows, kept, window_rows))


def _errors(rows: Floats, losses: Mapping[str, Floats], window_rows: int) -> dict[str, float]:
    length = min(window_rows, max(LEAST_ROWS // 2, len(rows) // LEAST_WINDOWS))
    misses: dict[str, list[float]] = {metric: [] for metric, (name, _) in METRICS.items() if name in losses}
    for block in np.array_split(np.arange(len(rows)), BLOCKS):
        seen = np.ones(len(rows), bool)
        seen[block] = False
        for name, loss in losses.items():
            weights, mean = _ridge(rows[seen], loss[seen]), float(loss[seen].mean())
            for start in range(0, max(1, len(block) - length + 1), length):
                window = block[start : start + length]
                told = mean + float((rows[window] @ weights).mean())
                for metric in (metric for metric in misses if METRICS[metric][0] == name):
                    misses[metric].append(_metric(metric, told) - _metric(metric, float(loss[window].mean())))
    return {metric: float(np.sqrt(np.mean(np.square(found)))) for metric, found in misses.items()}


def _metric(metric: str, loss: float) -> float:
    return METRICS[metric][1](max(loss, 0.0))


def _ridge(rows: Floats, loss: Floats) -> Floats:
    gram = rows.T @ rows + RIDGE * np.eye(rows.shape[1])
    return np.linalg.solve(gram, rows.T @ (loss - loss.mean()))


def _cuts(reference: Reference) -> dict[str, list[int]]:
    """Where each numeric column's deciles lie among its edges; nothing for categories, whose slots are the bins."""
    found: dict[str, list[int]] = {}
    for name, column in reference.layout.columns.items():
        if isinstance(column, NumericLayout):
            ranks = DECILES * reference.sketch.known(name)
            at = np.searchsorted(reference.sketch.counted(name), ranks)
            found[name] = np.unique(np.minimum(at, len(column.edges) - 1)).tolist()
    return found


def _shares(sketch: Sketch, cuts: dict[str, list[int]]) -> Floats:
    """The share of rows in each bin of each column, missing ones last, one column after the other."""
    parts: list[Floats] = []
    for name, column in sketch.layout.columns.items():
        measured = sketch.measured(name)
        rows = max(float(measured[ROWS]), 1.0)
        counts = sketch.counted(name).astype(float)
        if isinstance(column, NumericLayout):
            counts = np.diff([0.0, *counts[cuts[name]], float(sketch.known(name))])
        parts.append(np.append(counts, measured[MISSING]) / rows)
    return np.concatenate(parts)


def _design(reference: Reference, cuts: dict[str, list[int]], columns: Mapping[str, Any]) -> Floats:
    """For each row a 1 in its bin of each column: what `_shares` is the mean of."""
    layout: Layout = reference.layout
    parts: dict[str, Floats] = {}
    for name, kind in reference.kinds.items():
        for part, values in expand(name, kind, columns[name]).items():
            if part in layout.columns:
                parts[part] = _bins(layout.columns[part], cuts.get(part, []), values, kind in COUNTED)
    return np.hstack([parts[name] for name in layout.columns])


def _bins(column: NumericLayout | CategoryLayout, cuts: list[int], values: Any, counted: bool) -> Floats:
    if isinstance(column, NumericLayout) and not counted:
        codes = np.searchsorted(column.edges[cuts], values, side="left")
        codes[np.isnan(values)] = len(cuts) + 1
        return np.eye(len(cuts) + 2)[codes]
    assert isinstance(column, CategoryLayout), "what is counted has categories"
    slots = {name: slot for slot, name in enumerate(column.names)}
    others = len(column.names)
    codes = [others + 1 if v is None else slots.get(category_text(v), others) for v in as_arrow(values).to_pylist()]
    return np.eye(others + 2)[codes]
