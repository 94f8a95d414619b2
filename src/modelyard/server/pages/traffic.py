"""Rates from a gateway's running totals: the difference between a reading and one some seconds before."""

from itertools import pairwise
from typing import Any

from modelyard.deliver.serving.stats import quantile_ms
from modelyard.server.pages import charts
from modelyard.server.readings import Reading

WINDOW_MS = 10_000


def summary(readings: list[Reading]) -> dict[str, Any]:
    """Requests/s, error rate, latency and shares of the last ten seconds; totals where there is one reading only."""
    newest = readings[-1]
    before = next((r for r in reversed(readings[:-1]) if newest.at - r.at >= WINDOW_MS), readings[0])
    span = (newest.at - before.at) / 1000
    requests, errors, counts, versions = 0, 0, list[int](), dict[str, int]()
    for deployment, held in newest.counted.items():
        old = before.counted.get(deployment) if span else None
        fresh = held["requests"] - (old["requests"] if old else 0)
        requests += fresh
        errors += held["errors"] - (old["errors"] if old else 0)
        now, then = held["latency_ms"]["counts"], old["latency_ms"]["counts"] if old else None
        change = [a - b for a, b in zip(now, then, strict=True)] if then else list(now)
        counts = [a + b for a, b in zip(counts, change, strict=True)] if counts else change
        name = f"v{held['version']}"
        versions[name] = versions.get(name, 0) + fresh
    shares = [(name, count / requests) for name, count in versions.items() if count and requests]
    return {
        "seconds": round(span),
        "rate": requests / span if span else None,
        "error_rate": errors / requests if requests else None,
        "p50": quantile_ms(counts, 0.5) if counts else None,
        "p99": quantile_ms(counts, 0.99) if counts else None,
        "shares": shares,
        "share_picture": charts.shares(shares, "share of the requests by version") if shares else "",
        "picture": charts.spark(_rates(readings), "requests a second, the last minutes"),
    }


def _rates(readings: list[Reading]) -> list[float]:
    pairs = pairwise(readings)
    return [max(0.0, (b.requests - a.requests) / ((b.at - a.at) / 1000)) for a, b in pairs]
