"""Verdicts: failed beyond chance, inconclusive when unsure, succeeded otherwise."""

from typing import Any

import numpy as np
import pytest

from modelyard.deliver.deployments import judgement
from modelyard.deliver.deployments.comparison import Sample
from modelyard.deliver.deployments.judgement import Observed, Outcome, judge, observed
from modelyard.domain.environments import AbortIf

BOUNDS = (1.0, 10.0, 100.0)
F, U, S = Outcome.FAILED, Outcome.INCONCLUSIVE, Outcome.SUCCEEDED


def seen(requests: int, errors: int = 0, slow: int = 0, declined: int = 0) -> Observed:
    """`slow` of the requests took over 100 ms, the others under 1 ms."""
    return Observed(requests, errors, (requests - slow, 0, 0, slow), BOUNDS, declined=declined)


@pytest.mark.parametrize(
    ("requests", "errors", "final", "outcome"),
    [
        (0, 0, True, U),
        (99, 0, True, U),
        (100, 0, True, S),
        (100, 1, True, S),
        (100, 2, True, U),  # above 1%, but it may be chance
        (100, 10, True, F),
        (20, 10, False, F),  # so many that nobody has to wait
        (3, 2, False, U),
        (1000, 25, True, F),
        (1000, 22, False, U),  # early looks are stricter
        (1000, 10, True, S),
    ],
)
def test_error_rate(requests: int, errors: int, final: bool, outcome: Outcome) -> None:
    verdict = judge(seen(requests, errors), None, AbortIf(error_rate=0.01), 100, final=final)
    assert verdict.outcome is outcome, verdict.reason


@pytest.mark.parametrize(("slow", "outcome"), [(0, S), (5, S), (8, U), (20, F)])
def test_latency_percentile(slow: int, outcome: Outcome) -> None:
    verdict = judge(seen(100, slow=slow), None, AbortIf(latency_p95_ms=100.0), 100, final=True)
    assert verdict.outcome is outcome, verdict.reason


def test_a_bucket_that_holds_faster_ones_too_proves_nothing() -> None:
    between = Observed(100, 0, (60, 0, 40, 0), BOUNDS)  # forty took between 10 and 100 ms
    assert judge(between, None, AbortIf(latency_p95_ms=50.0), 100, final=True).outcome is S
    assert judge(between, None, AbortIf(latency_p95_ms=10.0), 100, final=True).outcome is F


def test_little_traffic_is_said_not_guessed() -> None:
    verdict = judge(seen(12), None, AbortIf(error_rate=0.01), 100, final=True)
    assert verdict.reason == "only 12 of 100 requests so far"


def test_errors_against_the_champion() -> None:
    bounds = AbortIf(error_rate_above_champion=0.0)
    assert judge(seen(200, 20), seen(2000, 200), bounds, 100, final=True).outcome is S
    assert judge(seen(200, 40), seen(2000, 200), bounds, 100, final=True).outcome is F
    few = judge(seen(200, 40), seen(50, 1), bounds, 100, final=True)
    assert few.outcome is U and "champion had only 50 of 100" in few.reason


@pytest.mark.parametrize(
    ("declined", "champion", "final", "outcome", "says"),
    [
        (40, (2000, 0), True, F, "declined rate 20.0% (40 of 200 requests were answered that their"),
        (40, (2000, 0), True, F, "against the champion's 0.0% on the same traffic, beyond chance"),
        (40, (2000, 0), False, F, ""),  # nobody has to wait for the step's end
        (40, (2000, 400), True, S, ""),  # callers whose input neither takes
        (2, (2000, 0), True, S, ""),
        (4, (2000, 0), True, S, ""),  # above 1%, but it may be chance
        (40, (50, 0), True, U, "the champion had only 50 of 100 requests to compare with"),
        (3, (50, 0), True, S, ""),  # so few that the champion's traffic would not matter
    ],
)
def test_declined_input_against_the_champion(
    declined: int, champion: tuple[int, int], final: bool, outcome: Outcome, says: str
) -> None:
    beside = seen(champion[0], declined=champion[1])
    verdict = judge(seen(200, declined=declined), beside, AbortIf(), 100, final=final)
    assert verdict.outcome is outcome and says in verdict.reason


def test_declined_input_alone_aborts_where_a_bound_says_so() -> None:
    """As after a rollout, and in blue-green, where no champion answers beside it."""
    bad = seen(200, declined=40)
    assert judge(bad, None, AbortIf(), 100, final=True).outcome is S
    verdict = judge(bad, None, AbortIf(declined_rate=0.05), 100, final=True)
    assert verdict.outcome is F and verdict.reason.startswith("declined rate 20.0% > 5.0% (40 of 200")
    assert judge(bad, seen(2000), AbortIf(declined_rate_above_champion=1.0), 100, final=True).outcome is S


def test_declined_input_of_a_shadow() -> None:
    mirrored = Observed(0, 0, shadow_requests=200, shadow_declined=40).as_shadow()
    assert judge(mirrored, seen(200), AbortIf(), 100, final=True).outcome is F
    assert judge(mirrored, seen(200, declined=40), AbortIf(), 100, final=True).outcome is S


def test_latency_against_the_champion() -> None:
    bounds = AbortIf(latency_times_champion=2.0)
    fast = Observed(1000, 0, (1000, 0, 0, 0), BOUNDS)
    assert judge(seen(200), fast, bounds, 100, final=True).outcome is S
    verdict = judge(seen(200, slow=60), fast, bounds, 100, final=True)
    assert verdict.outcome is F and "2 times the champion's 1 ms" in verdict.reason


def test_looking_often_aborts_no_good_deployment() -> None:
    """An error rate at the limit itself, looked at after every request: under 1% of the rollouts are aborted."""
    random, bounds, aborted = np.random.default_rng(3), AbortIf(error_rate=0.05), 0
    for _ in range(150):
        failures = np.cumsum(random.random(1000) < 0.05)
        # a verdict can only turn to failed where an error has just come in
        looks = np.flatnonzero(np.diff(failures, prepend=0))
        aborted += any(
            judge(seen(int(at) + 1, int(failures[at])), None, bounds, 100, final=False).outcome is F for at in looks
        )
    assert aborted <= 2


def test_a_bad_deployment_is_found_early() -> None:
    random, bounds = np.random.default_rng(5), AbortIf(error_rate=0.05)
    failures = np.cumsum(random.random(1000) < 0.3)
    needed = next(
        n for n in range(1, 1001) if judge(seen(n, int(failures[n - 1])), None, bounds, 100, final=False).outcome is F
    )
    assert needed < 80


def test_predictions_against_the_champions() -> None:
    random = np.random.default_rng(1)
    same, other = list(random.random(300)), list(random.random(300) ** 3)
    assert judgement.judge_predictions(0.2, list(random.random(300)), same, 100).outcome is S
    assert judgement.judge_predictions(0.2, other, same, 100).outcome is F
    assert judgement.judge_predictions(0.2, other[:50], same, 100).outcome is U


def test_rewards_against_the_champions() -> None:
    random = np.random.default_rng(2)

    def arm(mean: float, count: int = 400) -> Sample:
        return Sample.of(list(random.normal(mean, 1.0, count)))

    assert judgement.judge_rewards(arm(1.5), arm(1.0), 0.0, final=True).outcome is S
    assert judgement.judge_rewards(arm(0.5), arm(1.0), 0.0, final=True).outcome is F
    assert judgement.judge_rewards(arm(0.5, 10), arm(1.0), 0.0, final=True).outcome is U
    assert judgement.judge_rewards(arm(0.8), arm(1.0), 0.5, final=True).outcome is U


def reading(requests: int, errors: int, since: int, named: int = 0) -> dict[str, Any]:
    counters = {"requests": requests, "errors": errors, "named_requests": named, "named_errors": min(named, errors)}
    counters |= {"shadow_requests": 0, "shadow_errors": 0, "shadow_declined": 0, "since": since}
    counters |= {"declined": errors, "named_declined": min(named, errors)}  # as many as errors
    latency = {"counts": [requests, 0, 0, 0], "named": [named, 0, 0, 0], "bounds": list(BOUNDS)}
    return {**counters, "latency_ms": latency}


def test_a_step_is_judged_by_its_own_requests() -> None:
    found = observed(reading(150, 5, since=1), reading(100, 5, since=1))
    assert (found.requests, found.errors, found.counts) == (50, 0, (50, 0, 0, 0))
    assert observed(reading(150, 25, since=1), reading(100, 5, since=1)).declined == 20


def test_who_names_a_deployment_is_no_sample_of_its_traffic() -> None:
    """A preview that fails all the time aborts nothing, and one that works hides nothing."""
    found = observed(reading(150, 55, since=1, named=80), reading(100, 5, since=1, named=30))
    assert (found.requests, found.errors, found.declined, found.counts) == (0, 0, 0, (0, 0, 0, 0))
    found = observed(reading(150, 5, since=1, named=0), reading(100, 5, since=1, named=0))
    assert (found.requests, found.errors) == (50, 0)


def test_a_restarted_gateway_counts_from_zero_even_when_it_counted_further() -> None:
    found = observed(reading(150, 5, since=2), reading(100, 5, since=1))
    assert (found.requests, found.errors) == (150, 5)


def test_a_deployment_that_was_never_asked_has_answered_nothing() -> None:
    assert observed(None, None).requests == 0
    assert observed(reading(3, 0, since=1), None).requests == 3
