"""Where the model does worst: slices found by themselves, over columns and pairs of them."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from modelyard.deliver.monitoring.sketches import Floats

LEAST_ROWS = 50
LEAST_SHARE = 0.02
BINS = 4
MOST_VALUES = 12
MOST_PAIRED = 6
SIGNIFICANCE = 0.01
TOP = 5


def worst(columns: Mapping[str, Any], losses: Floats, top: int = TOP) -> list[dict[str, Any]]:
    """Slices whose mean loss is above that of all rows, worst total excess first: [{slice, rows, loss, excess, z}].

    columns: floats or text by name, shape (rows,); losses: one a row. A slice is a category, a quartile of a number,
    or a crossing of two of the MOST_PAIRED most telling columns; it needs LEAST_ROWS rows, LEAST_SHARE of all, and
    significance corrected for the number of slices looked at (Bonferroni). A crossing is told only when it is worse
    than both of its sides.
    """
    coded = {name: _codes(values) for name, values in columns.items()}
    coded = {name: found for name, found in coded.items() if len(found[1]) > 1}
    single = {name: _means(codes, len(names), losses) for name, (codes, names) in coded.items()}
    telling = sorted(single, key=lambda name: -_spread(single[name]))[:MOST_PAIRED]
    found: list[dict[str, Any]] = []
    looked = 0
    for name, (_, names) in coded.items():
        rows, means, spreads = single[name]
        looked += len(names)
        found += _slices([(name, label) for label in names], rows, means, spreads, losses)
    for first, second in itertools.combinations(telling, 2):
        (a, left), (b, right) = coded[first], coded[second]
        rows, means, spreads = _means(a * len(right) + b, len(left) * len(right), losses)
        looked += len(rows)
        floor = np.maximum(np.repeat(single[first][1], len(right)), np.tile(single[second][1], len(left)))
        labels = [(f"{first}, {second}", f"{x}, {y}") for x, y in itertools.product(left, right)]
        found += _slices(labels, rows, np.where(means > floor * 1.1, means, 0.0), spreads, losses)
    least = z_of(SIGNIFICANCE / max(looked, 1))
    kept = [item for item in found if item["z"] >= least]
    return sorted(kept, key=lambda item: -item["excess"] * item["rows"])[:top]


def _slices(
    labels: list[tuple[str, str]], rows: Floats, means: Floats, spreads: Floats, losses: Floats
) -> list[dict[str, Any]]:
    overall, least = float(losses.mean()), max(LEAST_ROWS, LEAST_SHARE * len(losses))
    found: list[dict[str, Any]] = []
    for at in np.flatnonzero((rows >= least) & (means > overall)).tolist():
        error = math.sqrt(max(spreads[at], 1e-12) / rows[at])
        by, value = labels[at]
        found.append(
            {
                "by": by,
                "value": value,
                "rows": int(rows[at]),
                "loss": float(means[at]),
                "excess": float(means[at] - overall),
                "z": float((means[at] - overall) / error),
            }
        )
    return found


def _means(codes: Any, count: int, losses: Floats) -> tuple[Floats, Floats, Floats]:
    """(rows, mean loss, variance of the loss) of each code, each shape (count,)."""
    rows = np.bincount(codes, minlength=count).astype(float)
    held = np.maximum(rows, 1)
    means = np.bincount(codes, losses, count) / held
    squares = np.bincount(codes, losses**2, count) / held
    return rows, means, np.maximum(squares - means**2, 0)


def _spread(found: tuple[Floats, Floats, Floats]) -> float:
    rows, means, _ = found
    centre = (rows * means).sum() / rows.sum()
    return float((rows * (means - centre) ** 2).sum())


def _codes(values: Any) -> tuple[Any, list[str]]:
    """(code of each row, label of each code): categories, or quartiles of numbers; missing is one of its own."""
    if values.dtype.kind != "f":
        names, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
        order = np.argsort(-counts)[:MOST_VALUES]
        place = np.full(len(names), len(order))
        place[order] = np.arange(len(order))
        return place[codes], [*(str(names[at]) or "missing" for at in order), "others"]
    known = values[~np.isnan(values)]
    if not len(known):
        return np.zeros(len(values), int), ["missing"]
    cuts = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]))
    codes = np.where(np.isnan(values), len(cuts) + 1, np.searchsorted(cuts, values, side="left"))
    bounds = [f"{cut:.4g}" for cut in cuts]
    labels = [
        f"<= {bounds[0]}",
        *(f"{a} to {b}" for a, b in itertools.pairwise(bounds)),
        f"> {bounds[-1]}",
        "missing",
    ]
    return codes, labels


def z_of(chance: float) -> float:
    """The z above which a normal variable lies with this chance (bisection on erfc)."""
    low, high = 0.0, 12.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erfc(middle / math.sqrt(2)) / 2 > chance else (low, middle)
    return high
