"""Counters, their Prometheus text, quantiles."""

import math

import pytest

from modelyard.deliver.serving.stats import BOUNDS_MS, Counters, prometheus, quantile_ms


def noted(*answers: tuple[int, float]) -> Counters:
    counters = Counters()
    for status, latency in answers:
        counters.note(status, latency)
    return counters


def test_answers_are_counted_by_kind():
    shown = noted((200, 1.0), (400, 1.0), (429, 1.0), (499, 1.0), (500, 1.0), (504, 1.0)).shown()
    assert (shown["requests"], shown["errors"], shown["client_errors"]) == (6, 2, 3)


@pytest.mark.parametrize(
    ("latency", "bucket"), [(0.0, 0), (0.5, 0), (0.51, 1), (10_000.0, len(BOUNDS_MS) - 1), (10_001.0, len(BOUNDS_MS))]
)
def test_a_bound_belongs_to_its_bucket(latency: float, bucket: int):
    counts = noted((200, latency)).counts
    assert counts[bucket] == 1 and sum(counts) == 1 and len(counts) == len(BOUNDS_MS) + 1


def test_quantiles_are_the_bucket_that_holds_them():
    assert quantile_ms([0] * (len(BOUNDS_MS) + 1), 0.99) is None
    counters = noted(*[(200, 1.5)] * 98, (200, 40.0), (200, 99_999.0))
    assert quantile_ms(counters.counts, 0.5) == 2
    assert quantile_ms(counters.counts, 0.99) == 50
    assert quantile_ms(counters.counts, 1.0) == math.inf


def families(text: str) -> list[str]:
    """The metric family of every sample, in order."""
    found: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            name = line.partition("{")[0]
            for ending in ("_bucket", "_sum", "_count"):
                name = name.removesuffix(ending)
            found.append(name)
    return found


def test_the_text_holds_cumulative_buckets():
    counters = noted((200, 0.1), (200, 4.0), (500, 20_000.0))
    lines = prometheus({("m", "d", 3): counters}, {"m": 7}, {"m": 2}).splitlines()
    labels = 'endpoint="m",deployment="d",version="3"'
    assert f"modelyard_requests_total{{{labels}}} 3" in lines
    assert f"modelyard_errors_total{{{labels}}} 1" in lines
    buckets = [int(line.split()[-1]) for line in lines if "_bucket" in line]
    assert buckets == sorted(buckets) and buckets[0] == 1 and buckets[-1] == 3
    assert f'modelyard_latency_ms_bucket{{{labels},le="+Inf"}} 3' in lines
    assert f"modelyard_latency_ms_count{{{labels}}} 3" in lines
    assert 'modelyard_dropped_log_rows_total{endpoint="m"} 7' in lines
    assert 'modelyard_waiting_requests{endpoint="m"} 2' in lines


def test_the_samples_of_a_family_are_one_group():
    found = families(prometheus({("m", "a", 1): Counters(), ("m", "b", 2): Counters()}, {}))
    changes = [name for before, name in zip(["", *found], found, strict=False) if name != before]
    assert len(changes) == len(set(changes))
