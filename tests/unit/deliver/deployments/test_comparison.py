"""Statistics against scipy and by simulation."""

import numpy as np
import pytest
from scipy import stats

from modelyard.deliver.deployments import comparison
from modelyard.deliver.deployments.comparison import EARLY, FINAL, Sample, Z

Z_FINAL = Z[FINAL]


@pytest.mark.parametrize(("failures", "trials"), [(0, 10), (3, 10), (10, 10), (7, 1000), (1, 1)])
@pytest.mark.parametrize("z", [Z[FINAL], Z[EARLY]])
def test_wilson_is_scipys(failures: int, trials: int, z: float) -> None:
    level = 2 * stats.norm.cdf(z) - 1
    theirs = stats.binomtest(failures, trials).proportion_ci(level, method="wilson")
    assert comparison.wilson(failures, trials, z) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize(
    ("failures", "trials", "rate"), [(0, 5, 0.1), (3, 10, 0.1), (22, 1000, 0.01), (700, 100_000, 0.006), (6, 5, 0.5)]
)
def test_the_binomial_tail_is_scipys(failures: int, trials: int, rate: float) -> None:
    theirs = stats.binom.sf(failures - 1, trials, rate)
    assert comparison.binomial_tail(failures, trials, rate) == pytest.approx(theirs, rel=1e-9)


def test_the_levels_quantiles_are_scipys() -> None:
    assert [Z[FINAL], Z[EARLY]] == pytest.approx([stats.norm.isf(FINAL), stats.norm.isf(EARLY)], abs=1e-5)


def test_nothing_is_known_without_trials() -> None:
    assert comparison.wilson(0, 0, 2.0) == (0.0, 1.0)
    assert comparison.rate_difference((0, 0), (1, 2), 2.0) == (-1.0, 1.0)
    assert comparison.probability_better(Sample.of([1.0]), Sample.of([2.0])) == 0.5


def test_newcombes_published_example() -> None:
    """Newcombe 1998, table II, (a): 56/70 - 48/80, method 10: 0.0524 to 0.3339."""
    assert comparison.rate_difference((56, 70), (48, 80), Z_FINAL) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_the_difference_of_means_covers_as_promised() -> None:
    random = np.random.default_rng(7)
    hits = 0
    for _ in range(400):
        first = Sample.of(list(random.normal(1.0, 2.0, 60)))
        second = Sample.of(list(random.normal(0.5, 1.0, 90)))
        low, high = comparison.mean_difference(first, second, Z_FINAL)
        hits += low <= 0.5 <= high
    assert 0.92 <= hits / 400 <= 0.98


def test_the_probability_of_being_better_is_normal() -> None:
    first, second = Sample(100, 1.1, 4.0), Sample(400, 1.0, 9.0)
    expected = stats.norm.cdf(0.1 / np.sqrt(4 / 100 + 9 / 400))
    assert comparison.probability_better(first, second) == pytest.approx(expected, abs=1e-12)
    assert comparison.probability_better(Sample(5, 1.0, 0.0), Sample(5, 0.0, 0.0)) == 1.0


def test_slower_than_counts_only_what_is_certain() -> None:
    counts, bounds = [5, 4, 3, 2], [10.0, 20.0, 50.0]
    assert comparison.slower_than(counts, bounds, 20.0) == 5
    assert comparison.slower_than(counts, bounds, 15.0) == 5
    assert comparison.slower_than(counts, bounds, 60.0) == 0
    assert comparison.slower_than(counts, bounds, 10.0) == 9


def test_a_shift_of_predictions_is_found_and_none_is_not() -> None:
    random = np.random.default_rng(11)
    same = [comparison.population_shift(list(random.random(500)), list(random.random(500))) for _ in range(200)]
    assert sum(certain for _, certain in same) <= 2
    index, certain = comparison.population_shift(list(random.random(500)), list(random.random(500) ** 2))
    assert certain and index > 0.2


def test_few_distinct_predictions_make_few_bins() -> None:
    index, certain = comparison.population_shift([0.0] * 50 + [1.0] * 50, [0.0] * 10 + [1.0] * 90)
    assert certain and index > 0.5
    assert comparison.population_shift([1.0] * 50, [1.0] * 50) == (0.0, False)
    assert comparison.population_shift([], [1.0]) == (0.0, False)


def test_the_chi_square_quantiles_are_scipys() -> None:
    theirs = [stats.chi2.ppf(0.999, freedom) for freedom in range(1, 10)]
    assert comparison.CHI_SQUARE_999 == pytest.approx(theirs, abs=1e-3)
