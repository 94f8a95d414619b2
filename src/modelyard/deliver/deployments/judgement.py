"""Is the new deployment good enough to go on? Three outcomes: failed, inconclusive, succeeded.

A bound is broken only beyond chance. Before the end of a step every look uses a strict level, since looking often
would abort good deployments; at its end the usual 95%. Too little traffic is inconclusive, and so is a bound that
seems broken but may be by chance.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modelyard.deliver.deployments import comparison
from modelyard.deliver.deployments.comparison import EARLY, FINAL, Sample, Z
from modelyard.domain.environments import DECLINED_ABOVE_CHAMPION, AbortIf

LEAST_FAILURES = 3
"""So few errors may be chance; fewer never abort a rollout."""
DECLINED = "were answered that their input is not taken"
LEAST_REWARDS = 30
"""Below it the mean of rewards is not nearly normal."""


class Outcome(StrEnum):
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    SUCCEEDED = "succeeded"


@dataclass(frozen=True)
class Verdict:
    outcome: Outcome
    reason: str


@dataclass(frozen=True)
class Observed:
    """What a deployment answered since a moment; `shadow_requests` are those whose answers went nowhere.

    declined: answers of 400 and 422 for input that it does not take while another version may.
    """

    requests: int = 0
    errors: int = 0
    counts: tuple[int, ...] = ()
    bounds: tuple[float, ...] = ()
    shadow_requests: int = 0
    shadow_errors: int = 0
    declined: int = 0
    shadow_declined: int = 0

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests if self.requests else 0.0

    @property
    def declined_rate(self) -> float:
        return self.declined / self.requests if self.requests else 0.0

    def as_shadow(self) -> "Observed":
        """The mirrored requests as if they were ordinary ones; their latency is not measured."""
        return Observed(self.shadow_requests, self.shadow_errors, declined=self.shadow_declined)

    def with_more(self, other: "Observed") -> "Observed":
        """What two gateways observed together."""
        counts = tuple(map(sum, zip(self.counts, other.counts, strict=True))) if self.counts and other.counts else ()
        return Observed(
            self.requests + other.requests,
            self.errors + other.errors,
            counts or self.counts or other.counts,
            self.bounds or other.bounds,
            self.shadow_requests + other.shadow_requests,
            self.shadow_errors + other.shadow_errors,
            self.declined + other.declined,
            self.shadow_declined + other.shadow_declined,
        )

    def quantile_ms(self, share: float) -> float | None:
        """Upper bound of the bucket that holds the quantile; None without requests, infinity beyond the last."""
        wanted, running = share * sum(self.counts), 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=False):
            running += count
            if running >= wanted and running:
                return bound
        return None


def observed(now: dict[str, Any] | None, before: dict[str, Any] | None) -> Observed:
    """The difference of two readings of a deployment's counters, each with `since`, the start of its gateway.

    When the gateway was restarted in between, what it counts since then is all that is known. Requests that named
    their deployment (a preview, a version in the path) are left out: who sends them chose, they are no sample.
    """
    if now is None:
        return Observed()
    same = before is not None and before.get("since") == now.get("since") and before["requests"] <= now["requests"]
    held = Observed() if before is None or not same else _sampled(before)
    seen = _sampled(now)
    earlier = held.counts or (0,) * len(seen.counts)
    return Observed(
        seen.requests - held.requests,
        seen.errors - held.errors,
        tuple(a - b for a, b in zip(seen.counts, earlier, strict=True)),
        seen.bounds,
        seen.shadow_requests - held.shadow_requests,
        seen.shadow_errors - held.shadow_errors,
        seen.declined - held.declined,
        seen.shadow_declined - held.shadow_declined,
    )


def _sampled(counted: dict[str, Any]) -> Observed:
    """A deployment's counters without the requests that named it."""
    latency = counted["latency_ms"]
    return Observed(
        counted["requests"] - counted["named_requests"],
        counted["errors"] - counted["named_errors"],
        tuple(every - named for every, named in zip(latency["counts"], latency["named"], strict=True)),
        tuple(latency["bounds"]),
        counted["shadow_requests"],
        counted["shadow_errors"],
        counted["declined"] - counted["named_declined"],
        counted["shadow_declined"],
    )


def judge(seen: Observed, champion: Observed | None, bounds: AbortIf, least: int, *, final: bool) -> Verdict:
    """The verdict on counters: failed as soon as a bound is broken beyond chance.

    champion: the same traffic's other part; None when there is none to compare with. final: the step's time is over.
    """
    level = FINAL if final else EARLY
    doubts: list[str] = []
    for verdict in (
        _over("error rate", "failed", seen.errors, seen.requests, bounds.error_rate, level),
        _over("declined rate", DECLINED, seen.declined, seen.requests, bounds.declined_rate, level),
        *_latencies(seen, bounds, level),
        *_against(seen, champion, bounds, least, level),
        _declines(seen, champion, bounds, least, level),
    ):
        if verdict is None:
            continue
        if verdict.outcome is Outcome.FAILED:
            return verdict
        doubts.append(verdict.reason)
    if seen.requests < least:
        return Verdict(Outcome.INCONCLUSIVE, f"only {seen.requests} of {least} requests so far")
    if doubts:
        return Verdict(Outcome.INCONCLUSIVE, "; ".join(doubts))
    return Verdict(Outcome.SUCCEEDED, f"{seen.requests} requests, error rate {seen.error_rate:.2%}")


def judge_predictions(limit: float, ours: list[float], champions: list[float], least: int) -> Verdict:
    """Whether the predictions drifted from the champion's on the same traffic."""
    if min(len(ours), len(champions)) < least:
        return Verdict(Outcome.INCONCLUSIVE, too_few("predictions", len(ours), len(champions), least))
    index, certain = comparison.population_shift(champions, ours)
    if index > limit and certain:
        text = f"prediction drift {index:.2f} > {limit:g} against the champion (population stability index)"
        return Verdict(Outcome.FAILED, text)
    return Verdict(Outcome.SUCCEEDED, f"prediction drift {index:.2f}")


def too_few(what: str, ours: int, champions: int, least: int) -> str:
    return f"only {ours} {what} and {champions} of the champion's so far, {least} each are needed"


def judge_rewards(ours: Sample, champions: Sample, margin: float, *, final: bool) -> Verdict:
    """Failed when the reward is below the champion's by more than `margin` beyond chance."""
    if min(ours.count, champions.count) < LEAST_REWARDS:
        return Verdict(Outcome.INCONCLUSIVE, too_few("rewards", ours.count, champions.count, LEAST_REWARDS))
    low, high = comparison.mean_difference(ours, champions, Z[FINAL if final else EARLY])
    shown = f"reward {ours.mean:.4g} against the champion's {champions.mean:.4g} (difference {low:.3g} to {high:.3g})"
    if high < -margin:
        return Verdict(Outcome.FAILED, shown)
    return Verdict(Outcome.SUCCEEDED if low > 0 else Outcome.INCONCLUSIVE, shown)


def _over(rate: str, did: str, count: int, requests: int, limit: float | None, level: float) -> Verdict | None:
    """Whether more of the requests than `limit` allows did what the rate counts, beyond chance (binomial)."""
    if limit is None or not requests or count / requests <= limit:
        return None
    text = f"{rate} {count / requests:.1%} > {limit:.1%} ({count} of {requests} requests {did})"
    if count >= LEAST_FAILURES and comparison.binomial_tail(count, requests, limit) < level:
        return Verdict(Outcome.FAILED, text)
    return Verdict(Outcome.INCONCLUSIVE, f"{text}, which may be chance")


def _latencies(seen: Observed, bounds: AbortIf, level: float) -> list[Verdict | None]:
    limits = ((0.5, bounds.latency_p50_ms), (0.95, bounds.latency_p95_ms), (0.99, bounds.latency_p99_ms))
    return [_slow(seen, share, limit, f"{limit:g} ms", level) for share, limit in limits if limit is not None]


def _slow(seen: Observed, share: float, limit: float, named: str, level: float) -> Verdict | None:
    """Whether more than 1 - `share` of the requests took longer than `limit`, beyond chance (binomial)."""
    slow = comparison.slower_than(seen.counts, seen.bounds, limit) if seen.counts else 0
    allowed = 1 - share
    if slow <= allowed * seen.requests:
        return None
    quantile = seen.quantile_ms(share) or 0.0
    text = f"latency p{share * 100:g} {quantile:g} ms > {named} ({slow} of {seen.requests} requests were slower)"
    if slow >= LEAST_FAILURES and comparison.binomial_tail(slow, seen.requests, allowed) < level:
        return Verdict(Outcome.FAILED, text)
    return Verdict(Outcome.INCONCLUSIVE, f"{text}, which may be chance")


def _against(
    seen: Observed, champion: Observed | None, bounds: AbortIf, least: int, level: float
) -> list[Verdict | None]:
    """The comparisons with the champion on the same traffic."""
    margin, times = bounds.error_rate_above_champion, bounds.latency_times_champion
    if champion is None or (margin is None and times is None):
        return []
    if champion.requests < least:
        text = f"the champion had only {champion.requests} of {least} requests to compare with"
        return [Verdict(Outcome.INCONCLUSIVE, text)]
    found: list[Verdict | None] = []
    if margin is not None and seen.errors >= LEAST_FAILURES:
        held = (champion.errors, champion.requests)
        low, _ = comparison.rate_difference((seen.errors, seen.requests), held, Z[level])
        if low > margin:
            text = f"error rate {seen.error_rate:.1%} against the champion's {champion.error_rate:.1%} on the same"
            found.append(Verdict(Outcome.FAILED, f"{text} traffic, beyond chance"))
    usual = champion.quantile_ms(0.95)
    if times is not None and usual is not None and seen.counts:
        named = f"{times:g} times the champion's {usual:g} ms"
        found.append(_slow(seen, 0.95, usual * times, named, level))
    return found


def _declines(seen: Observed, champion: Observed | None, bounds: AbortIf, least: int, level: float) -> Verdict | None:
    """Whether it does not take what the champion takes of the same traffic, beyond chance (Newcombe).

    Without enough of the champion's traffic it is doubtful only where the rate would be too high beside none.
    """
    if champion is None or seen.declined < LEAST_FAILURES:
        return None
    declared = bounds.declined_rate_above_champion
    margin = DECLINED_ABOVE_CHAMPION if declared is None else declared
    counted = (seen.declined, seen.requests)
    text = f"declined rate {seen.declined_rate:.1%} ({seen.declined} of {seen.requests} requests {DECLINED})"
    if champion.requests < least:
        alone, _ = comparison.wilson(*counted, Z[level])
        few = f"{text}; the champion had only {champion.requests} of {least} requests to compare with"
        return Verdict(Outcome.INCONCLUSIVE, few) if alone > margin else None
    low, _ = comparison.rate_difference(counted, (champion.declined, champion.requests), Z[level])
    against = f"{text} against the champion's {champion.declined_rate:.1%} on the same traffic, beyond chance"
    return Verdict(Outcome.FAILED, against) if low > margin else None
