"""Is the new deployment good enough to go on? Three outcomes: failed, inconclusive, succeeded."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modelyard.deliver.serving.stats import quantile_ms
from modelyard.domain.project import AbortIf

Z = 1.959964
"""Two-sided 95% quantile of the standard normal distribution."""
LEAST_FAILURES = 3
"""So few errors may be chance; fewer never abort a rollout early."""


class Outcome(StrEnum):
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    SUCCEEDED = "succeeded"


@dataclass(frozen=True)
class Observed:
    """What a deployment answered during a step."""

    requests: int
    errors: int
    counts: tuple[int, ...]

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests if self.requests else 0.0


@dataclass(frozen=True)
class Verdict:
    outcome: Outcome
    reason: str


def observed(now: dict[str, Any] | None, before: dict[str, Any] | None) -> Observed:
    """The difference of two readings of a deployment's counters; a counter that fell was restarted from zero."""
    if now is None:
        return Observed(0, 0, ())
    counts: list[int] = now["latency_ms"]["counts"]
    if before is None or now["requests"] < before["requests"]:
        return Observed(now["requests"], now["errors"], tuple(counts))
    held: list[int] = before["latency_ms"]["counts"]
    difference = tuple(a - b for a, b in zip(counts, held, strict=True))
    return Observed(now["requests"] - before["requests"], now["errors"] - before["errors"], difference)


def lower_bound(failures: int, trials: int) -> float:
    """Lower end of the 95% interval of a rate (Wilson 1927)."""
    if trials == 0:
        return 0.0
    rate, square = failures / trials, Z * Z
    middle = rate + square / (2 * trials)
    margin = Z * math.sqrt(rate * (1 - rate) / trials + square / (4 * trials * trials))
    return (middle - margin) / (1 + square / trials)


def judge(seen: Observed, bounds: AbortIf, least_requests: int) -> Verdict:
    """Failed as soon as a bound is broken beyond chance; inconclusive below `least_requests` requests."""
    enough = seen.requests >= least_requests
    limit = bounds.error_rate
    if limit is not None and seen.errors >= LEAST_FAILURES:
        certain = lower_bound(seen.errors, seen.requests) > limit
        if certain or (enough and seen.error_rate > limit):
            return Verdict(
                Outcome.FAILED,
                f"error rate {seen.error_rate:.1%} > {limit:.1%} ({seen.errors} of {seen.requests} requests failed)",
            )
    if bounds.latency_p99_ms is not None and enough:
        p99 = quantile_ms(list(seen.counts), 0.99)
        if p99 is not None and p99 > bounds.latency_p99_ms:
            return Verdict(Outcome.FAILED, f"latency p99 {p99:g} ms > {bounds.latency_p99_ms:g} ms")
    if not enough:
        return Verdict(Outcome.INCONCLUSIVE, f"only {seen.requests} of {least_requests} requests so far")
    return Verdict(Outcome.SUCCEEDED, f"{seen.requests} requests, error rate {seen.error_rate:.2%}")
