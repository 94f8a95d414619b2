"""Small exact statistics for comparing two deployments on the same traffic; no library, so the server stays light."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

FINAL, EARLY = 0.025, 0.0001
"""One-sided levels: the usual one, used once at the end of a step, and that of every look before it, so strict that
looking after each of a thousand requests aborts under 1% of deployments at the limit itself (simulated in the tests).
"""
Z = {FINAL: 1.959964, EARLY: 3.719016}
"""The standard normal quantiles of these levels."""
BINS = 10
CHI_SQUARE_999 = (10.828, 13.816, 16.266, 18.467, 20.515, 22.458, 24.322, 26.124, 27.877)
"""99.9% quantiles of the chi-square distribution with 1 to 9 degrees of freedom."""


@dataclass(frozen=True)
class Sample:
    """Mean and spread of a set of numbers."""

    count: int
    mean: float
    variance: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Sample":
        count = len(values)
        if count == 0:
            return cls(0, 0.0, 0.0)
        mean = math.fsum(values) / count
        spread = math.fsum((value - mean) ** 2 for value in values) / (count - 1) if count > 1 else 0.0
        return cls(count, mean, spread)


def binomial_tail(failures: int, trials: int, rate: float) -> float:
    """Probability of at least so many failures when each trial fails at `rate`; exact."""
    if failures <= 0:
        return 1.0
    if rate <= 0 or failures > trials:
        return 0.0
    if rate >= 1:
        return 1.0
    odds = rate / (1 - rate)
    choose = math.lgamma(trials + 1) - math.lgamma(failures + 1) - math.lgamma(trials - failures + 1)
    term = math.exp(choose + failures * math.log(rate) + (trials - failures) * math.log1p(-rate))
    total = term
    for count in range(failures, trials):
        term *= (trials - count) / (count + 1) * odds
        total += term
        if term < total * 1e-15:
            break
    return min(1.0, total)


def wilson(failures: int, trials: int, z: float) -> tuple[float, float]:
    """Interval of a rate (Wilson 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    rate, square = failures / trials, z * z
    middle = rate + square / (2 * trials)
    margin = z * math.sqrt(rate * (1 - rate) / trials + square / (4 * trials * trials))
    return (middle - margin) / (1 + square / trials), (middle + margin) / (1 + square / trials)


def rate_difference(first: tuple[int, int], second: tuple[int, int], z: float) -> tuple[float, float]:
    """Interval of the difference of two rates, first - second, each (failures, trials) (Newcombe 1998, method 10)."""
    if first[1] == 0 or second[1] == 0:
        return -1.0, 1.0
    one, two = first[0] / first[1], second[0] / second[1]
    (low1, high1), (low2, high2) = wilson(*first, z), wilson(*second, z)
    difference = one - two
    low = difference - math.sqrt((one - low1) ** 2 + (high2 - two) ** 2)
    return low, difference + math.sqrt((high1 - one) ** 2 + (two - low2) ** 2)


def mean_difference(first: Sample, second: Sample, z: float) -> tuple[float, float]:
    """Interval of the difference of two means, first - second (Welch; normal, for 30 and more values each)."""
    difference = first.mean - second.mean
    margin = z * _standard_error(first, second)
    return difference - margin, difference + margin


def probability_better(first: Sample, second: Sample) -> float:
    """Probability that the first mean is the greater one, under flat priors; 0.5 while either has under 2 values."""
    if first.count < 2 or second.count < 2:
        return 0.5
    error = _standard_error(first, second)
    difference = first.mean - second.mean
    if error == 0:
        return 0.5 if difference == 0 else float(difference > 0)
    return 0.5 * (1 + math.erf(difference / error / math.sqrt(2)))


def slower_than(counts: Sequence[int], bounds: Sequence[float], limit: float) -> int:
    """How many requests were certainly slower than `limit`: those in buckets that begin at or above it."""
    lower = (0.0, *bounds)
    return sum(count for count, start in zip(counts, lower, strict=True) if start >= limit)


def population_shift(reference: Sequence[float], current: Sequence[float]) -> tuple[float, bool]:
    """(population stability index, whether the shift is beyond chance at 0.1%) of two sets of predictions.

    Bins hold a tenth of the reference each, fewer where values repeat; zero counts are smoothed by half. The test is
    chi-square for homogeneity. Source: Siddiqi 2006, ch. 8; Pearson 1900.
    """
    edges = _edges(reference)
    before, after = _histogram(reference, edges), _histogram(current, edges)
    total, other = sum(before), sum(after)
    if not total or not other:
        return 0.0, False
    index = statistic = 0.0
    used = 0
    for held, found in zip(before, after, strict=True):
        if not held and not found:
            continue
        used += 1
        expected = (held + found) / (total + other)
        statistic += (held - total * expected) ** 2 / (total * expected)
        statistic += (found - other * expected) ** 2 / (other * expected)
        one, two = max(held, 0.5) / total, max(found, 0.5) / other
        index += (two - one) * math.log(two / one)
    certain = used > 1 and statistic > CHI_SQUARE_999[min(used - 2, len(CHI_SQUARE_999) - 1)]
    return index, certain


def _edges(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    cuts = {ordered[len(ordered) * n // BINS] for n in range(1, BINS)} if ordered else set[float]()
    return sorted(cuts)


def _histogram(values: Sequence[float], edges: Sequence[float]) -> list[int]:
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[bisect_left(edges, value)] += 1
    return counts


def _standard_error(first: Sample, second: Sample) -> float:
    return math.sqrt(sum(item.variance / item.count for item in (first, second) if item.count))
