"""Distances between sketches agree with scipy on the raw values."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from modelyard.deliver.monitoring import statistics
from modelyard.deliver.monitoring.reference import prepare, sketch_table
from modelyard.deliver.monitoring.statistics import Distances, EmptyWindow
from modelyard.deliver.monitoring.tables import MemoryTable

SHAPES = {
    "normal": lambda random, n: random.normal(3, 2, n),
    "skewed": lambda random, n: random.lognormal(0, 1, n),
    "whole numbers": lambda random, n: random.poisson(4, n).astype(float),
    "two peaks": lambda random, n: np.where(random.random(n) < 0.3, random.normal(-4, 1, n), random.normal(4, 1, n)),
    "mostly zero": lambda random, n: np.where(random.random(n) < 0.9, 0.0, random.gamma(2, 3, n)),
}


def distances(before: Any, after: Any) -> Distances:
    reference = prepare(MemoryTable({"x": before}))
    return statistics.compare(reference.sketch, sketch_table(reference, MemoryTable({"x": after})), "x")


def pair(shape: str, shift: float, rows: int = 100_000) -> tuple[Any, Any]:
    random = np.random.default_rng(11)
    return SHAPES[shape](random, rows), SHAPES[shape](random, rows // 2) + shift


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_kolmogorov_smirnov_agrees_with_scipy(shape: str, shift: float) -> None:
    before, after = pair(shape, shift)
    exact = scipy.stats.ks_2samp(before, after).statistic
    assert distances(before, after).ks == pytest.approx(exact, abs=0.0012)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_wasserstein_agrees_with_scipy(shape: str, shift: float) -> None:
    before, after = pair(shape, shift)
    exact = scipy.stats.wasserstein_distance(before, after) / before.std()
    assert distances(before, after).effect == pytest.approx(exact, abs=0.003)


def test_a_heavy_tail_agrees_with_scipy_too() -> None:
    random = np.random.default_rng(2)
    before, after = random.lognormal(0, 1.5, 50_000), random.lognormal(0.1, 1.5, 50_000)
    exact = scipy.stats.wasserstein_distance(before, after) / before.std()
    assert distances(before, after).effect == pytest.approx(exact, abs=0.005)


def test_a_window_outside_of_the_reference_is_as_far_as_it_is() -> None:
    before, after = np.linspace(0, 1, 1000), np.linspace(10, 11, 1000)
    ours = distances(before, after)
    assert ours.effect * before.std() == pytest.approx(10, abs=0.01)
    assert ours.ks == pytest.approx(1, abs=0.01)


def test_categories_agree_with_scipy_on_raw_counts() -> None:
    random = np.random.default_rng(3)
    names = np.array(["a", "b", "c", "d"])
    before, after = names[random.integers(0, 4, 9000)], names[random.choice(4, 4000, p=[0.4, 0.2, 0.2, 0.2])]
    ours = distances(pa.array(before), pa.array(after))
    p = np.array([(before == name).sum() for name in names], float)
    q = np.array([(after == name).sum() for name in names], float)
    assert ours.js == pytest.approx(float(jensenshannon(p, q, base=2)), abs=1e-9)
    exact = scipy.stats.chi2_contingency(np.vstack([p, q]), correction=False).pvalue
    assert ours.p_value == pytest.approx(exact, abs=1e-6)


counts = st.lists(st.integers(1, 5000), min_size=2, max_size=30)


@given(counts, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_jensen_shannon_is_scipys_symmetric_and_bounded(before: list[int], random: Any) -> None:
    p, q = np.array(before, float), np.array(random.sample(before, len(before)), float)
    ours = statistics.jensen_shannon(p, q)
    assert ours == pytest.approx(float(jensenshannon(p, q, base=2)), abs=1e-6)
    assert ours == pytest.approx(statistics.jensen_shannon(q, p), abs=1e-12)
    assert 0 <= ours <= 1


@given(counts, st.integers(2, 50))
@settings(max_examples=60, deadline=None)
def test_more_rows_of_the_same_shares_are_no_distance(before: list[int], times: int) -> None:
    p = np.array(before, float)
    assert statistics.jensen_shannon(p, p * times) == pytest.approx(0, abs=1e-6)
    assert statistics.population_stability_index(p, p * times) == pytest.approx(0, abs=1e-9)


@given(counts, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_population_stability_index_is_positive_and_symmetric(before: list[int], random: Any) -> None:
    p, q = np.array(before, float), np.array(random.sample(before, len(before)), float)
    ours = statistics.population_stability_index(p, q)
    assert ours >= -1e-12
    assert ours == pytest.approx(statistics.population_stability_index(q, p), abs=1e-9)


def test_population_stability_index_by_hand() -> None:
    expected = (0.4 - 0.5) * np.log(0.4 / 0.5) + (0.6 - 0.5) * np.log(0.6 / 0.5)
    assert statistics.population_stability_index(np.array([50.0, 50.0]), np.array([40.0, 60.0])) == pytest.approx(
        expected
    )


def test_disjoint_histograms_are_at_distance_one() -> None:
    assert statistics.jensen_shannon(np.array([9.0, 0.0]), np.array([0.0, 4.0])) == pytest.approx(1)


@pytest.mark.parametrize("statistic", [0.005, 0.01, 0.02, 0.03, 0.05])
def test_the_ks_p_value_is_scipys(statistic: float) -> None:
    first, second = 10_000, 4_000
    size = round(first * second / (first + second))
    assert statistics.ks_p_value(statistic, first, second) == pytest.approx(
        scipy.stats.kstwo.sf(statistic, size), abs=0.003
    )


@pytest.mark.parametrize("categories", [3, 8, 25])
@pytest.mark.parametrize("tilt", [0.0, 0.02, 0.05])
def test_the_chi_square_p_value_is_scipys(categories: int, tilt: float) -> None:
    random = np.random.default_rng(5)
    share = np.full(categories, 1 / categories)
    moved = share + tilt * np.where(np.arange(categories) % 2, 1, -1) * share
    before = random.multinomial(20_000, share).astype(float)
    after = random.multinomial(6_000, moved / moved.sum()).astype(float)
    exact = scipy.stats.chi2_contingency(np.vstack([before, after]), correction=False).pvalue
    assert statistics.chi_square_p_value(before, after) == pytest.approx(exact, abs=0.005)


@given(st.integers(0, 2**32 - 1), st.floats(-1e6, 1e6), st.floats(1e-3, 1e3))
@settings(max_examples=40, deadline=None)
def test_the_unit_of_a_column_does_not_matter(seed: int, offset: float, scale: float) -> None:
    random = np.random.default_rng(seed)
    before, after = random.normal(0, 1, 3000), random.normal(0.3, 1.2, 1000)
    plain, changed = distances(before, after), distances(before * scale + offset, after * scale + offset)
    assert changed.effect == pytest.approx(plain.effect, rel=1e-3)
    assert changed.ks == pytest.approx(plain.ks, abs=1e-3)


def test_the_order_of_rows_and_missing_values_do_not_matter() -> None:
    before, after = pair("normal", 0.5, 4000)
    shuffled = np.random.default_rng(0).permutation(np.append(after, [np.nan] * 50))
    plain, other = distances(before, after), distances(before, shuffled)
    assert other.effect == pytest.approx(plain.effect) and other.ks == plain.ks


def test_rare_categories_count_as_one() -> None:
    common = ["a"] * 5000 + ["b"] * 5000
    first, second = common + [f"rare{n}" for n in range(20)], common + [f"other{n}" for n in range(20)]
    assert distances(pa.array(first), pa.array(second)).effect == pytest.approx(0, abs=1e-9)


def test_a_vanished_category_is_a_distance() -> None:
    ours = distances(pa.array(["a", "b"] * 500), pa.array(["a"] * 500))
    assert ours.effect > 0.3 and ours.p_value < 1e-6 and ours.psi > 1


def test_nothing_to_compare_is_said() -> None:
    with pytest.raises(EmptyWindow):
        distances(np.array([1.0, 2.0]), np.array([np.nan]))
    with pytest.raises(EmptyWindow):
        distances(pa.array(["a"]), pa.array([], pa.string()))
    with pytest.raises(EmptyWindow):
        statistics.population_stability_index(np.zeros(3), np.ones(3))
