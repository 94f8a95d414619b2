"""Distances between two samples of a column, from histograms over the reference's own quantiles.

The reference is prepared once; a window costs one sort. Counts over the same edges can be added.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelyard.domain.errors import Invalid

EDGES = 1024
"""Reference quantiles kept: KS and W1 differ from the exact values by less than 1/EDGES of the range of ranks."""
PSI_BINS = 10
JS_BINS = 30
RARE = 0.005
"""Categories below this share of the reference are pooled."""
Floats = NDArray[np.float64]


class EmptyWindow(Invalid):
    """Raised when a sample has no values to compare."""

    code = "empty_window"


@dataclass(frozen=True)
class NumericReference:
    """A numeric column's reference: edges (n,), cumulative shares at the edges (n,), standard deviation, rows."""

    edges: Floats
    cumulative: Floats
    deviation: float
    rows: int


@dataclass(frozen=True)
class Distances:
    """How far a window is from its reference. `effect` is what thresholds judge: W1/sd, or JS for categories."""

    effect: float
    psi: float
    js: float
    p_value: float
    ks: float | None = None


def prepare_numeric(values: Floats) -> NumericReference:
    """The reference of a column. values: shape (rows,), NaN is left out. Raises EmptyWindow without a value."""
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        raise EmptyWindow("The reference has no value in this column.")
    edges = np.unique(known[np.linspace(0, len(known) - 1, min(EDGES, len(known))).astype(int)])
    cumulative = np.searchsorted(known, edges, side="right") / len(known)
    return NumericReference(edges, cumulative, float(known.std()) or 1.0, len(known))


def compare_numeric(reference: NumericReference, values: Floats) -> Distances:
    """Distances of a window from its reference. Raises EmptyWindow without a value.

    ks: largest difference of the cumulative shares (Kolmogorov 1933, Smirnov 1948), its p-value asymptotic; effect:
    Wasserstein-1 distance (the area between the cumulative shares) in reference standard deviations.
    """
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        raise EmptyWindow("The window has no value in this column.")
    shares = np.searchsorted(known, reference.edges, side="right") / len(known)
    gaps = np.abs(shares - reference.cumulative)
    ks = float(gaps.max())
    inside = float((gaps[:-1] * np.diff(reference.edges)).sum())
    below = np.maximum(reference.edges[0] - known, 0).sum() / len(known)
    above = np.maximum(known - reference.edges[-1], 0).sum() / len(known)
    wasserstein = (inside + float(below) + float(above)) / reference.deviation
    psi = population_stability_index(*_binned(reference, shares, PSI_BINS, len(known)))
    js = jensen_shannon(*_binned(reference, shares, JS_BINS, len(known)))
    return Distances(wasserstein, psi, js, ks_p_value(ks, reference.rows, len(known)), ks)


def _binned(reference: NumericReference, shares: Floats, bins: int, rows: int) -> tuple[Floats, Floats]:
    """(reference counts, window counts) over bins of about equal reference share, each shape (bins,)."""
    wanted = np.linspace(0, 1, bins + 1)[1:-1]
    cuts = np.unique(np.minimum(np.searchsorted(reference.cumulative, wanted), len(shares) - 1))
    before = np.concatenate(([0.0], reference.cumulative[cuts], [1.0]))
    after = np.concatenate(([0.0], shares[cuts], [1.0]))
    return np.diff(before) * reference.rows, np.diff(after) * rows


def population_stability_index(reference: Floats, current: Floats) -> float:
    """Population stability index between two histograms on the same bins.

    reference, current: counts, shape (bins,); zero bins are smoothed by half a count. Returns PSI >= 0,
    dimensionless; above 0.2 is commonly read as a material shift. Raises EmptyWindow when either side has no rows.
    Source: Siddiqi 2006, ch. 8.
    """
    if reference.sum() == 0 or current.sum() == 0:
        raise EmptyWindow("A histogram has no rows.")
    p = np.where(reference > 0, reference, 0.5)
    q = np.where(current > 0, current, 0.5)
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


def jensen_shannon(reference: Floats, current: Floats) -> float:
    """Jensen-Shannon distance (base 2) between two histograms on the same bins; 0 equal, 1 disjoint.

    Source: Lin 1991; the square root of the divergence is a metric (Endres and Schindelin 2003).
    """
    p, q = reference / reference.sum(), current / current.sum()
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return float(np.sqrt(max(divergence, 0.0)))


def _relative_entropy(p: Floats, q: Floats) -> float:
    held = p > 0
    return float((p[held] * np.log2(p[held] / q[held])).sum())


def ks_p_value(statistic: float, first: int, second: int) -> float:
    """Probability of so large a KS statistic without any change (Smirnov 1948, with Stephens' correction)."""
    root = np.sqrt(first * second / (first + second))
    scaled = (root + 0.12 + 0.11 / root) * statistic
    if scaled <= 0.2:  # the series converges too slowly there, and its value is 1 to ten digits
        return 1.0
    terms = np.arange(1, 101)
    series = ((-1.0) ** (terms - 1) * np.exp(-2 * (scaled * terms) ** 2)).sum()
    return float(np.clip(2 * series, 0, 1))


def compare_categories(reference: Any, values: Any) -> Distances:
    """Distances of categories, rare ones pooled. reference, values: arrays of text, shape (rows,).

    effect is the Jensen-Shannon distance; the p-value is of Pearson's chi-square test (1900), by the normal
    approximation of Wilson and Hilferty (1931).
    """
    if not len(reference) or not len(values):
        raise EmptyWindow("A sample has no categories.")
    names, counts = np.unique(reference, return_counts=True)
    kept = names[counts / len(reference) >= RARE]
    before, after = _counts(reference, kept), _counts(values, kept)
    js = jensen_shannon(before, after)
    return Distances(js, population_stability_index(before, after), js, chi_square_p_value(before, after))


def _counts(values: Any, kept: Any) -> Floats:
    """Counts of the kept categories and, last, of all others."""
    found = np.searchsorted(kept, values)
    found = np.where((found < len(kept)) & (kept[np.minimum(found, len(kept) - 1)] == values), found, len(kept))
    return np.bincount(found, minlength=len(kept) + 1).astype(float)


def chi_square_p_value(before: Floats, after: Floats) -> float:
    """Probability of so large a chi-square statistic when both histograms come from one distribution."""
    held = (before + after) > 0
    before, after = before[held], after[held]
    degrees = len(before) - 1
    if degrees < 1:
        return 1.0
    total = before.sum() + after.sum()
    statistic = 0.0
    for counts in (before, after):
        expected = (before + after) * counts.sum() / total
        statistic += float(((counts - expected) ** 2 / expected).sum())
    cube = (statistic / degrees) ** (1 / 3)
    z = (cube - (1 - 2 / (9 * degrees))) / np.sqrt(2 / (9 * degrees))
    return math.erfc(z / math.sqrt(2)) / 2
