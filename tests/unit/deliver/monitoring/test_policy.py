"""When a retrain may start by itself, and what a replay of known results says of a policy."""

from dataclasses import replace
from typing import Any

import pytest

from modelyard.deliver.monitoring import policy, replay
from modelyard.deliver.monitoring.kinds import BIAS, DRIFT, ESTIMATE, QUALITY, SERVICE
from modelyard.deliver.monitoring.policy import LABELS, SCHEDULE, Situation
from modelyard.domain.monitors import Monitor, Retrain

HOUR, DAY = 3_600_000, 86_400_000
NOON = 1_764_072_000_000
QUALITY_NOW = Situation(now=NOON, kind=QUALITY, measured=True)
CASES: list[tuple[Situation, str | None]] = [
    (QUALITY_NOW, None),
    (replace(QUALITY_NOW, kind=SCHEDULE), None),
    (replace(QUALITY_NOW, kind=LABELS), None),
    (Situation(now=NOON, kind=DRIFT), None),
    (Situation(now=NOON, kind=ESTIMATE, estimated=True), None),
    (Situation(now=NOON, kind=DRIFT, measured=True), "measured quality decides"),
    (Situation(now=NOON, kind=DRIFT, estimated=True), "the estimate decides"),
    (Situation(now=NOON, kind=ESTIMATE, measured=True), "measured quality decides"),
    (replace(QUALITY_NOW, kind=SERVICE), "service do not retrain"),
    (replace(QUALITY_NOW, kind=BIAS), "bias do not retrain by policy"),
    (replace(QUALITY_NOW, broken="age is gone"), "broken data is not trained on: age is gone"),
    (replace(QUALITY_NOW, waiting=True), "waits for a decision"),
    (replace(QUALITY_NOW, unhelpful=2), "a person has to look"),
    (replace(QUALITY_NOW, past=(NOON - HOUR // 2,)), "less than 1h ago"),
    (replace(QUALITY_NOW, past=tuple(NOON - n * DAY for n in range(1, 8))), "budget of 6"),
]


def test_noon_is_noon() -> None:
    assert policy.is_quiet("11:59-12:01", NOON)


@pytest.mark.parametrize(("situation", "reason"), CASES)
def test_a_retrain_starts_or_says_why_not(situation: Situation, reason: str | None) -> None:
    found = policy.why_not(Retrain(budget_per_week=6), situation)
    assert found is None if reason is None else reason in (found or "")


QUIET = [("22:00-06:00", 23, True), ("22:00-06:00", 5, True), ("22:00-06:00", 12, False), ("09:00-17:00", 12, True)]


@pytest.mark.parametrize(("hours", "hour", "quiet"), QUIET)
def test_quiet_hours_may_go_over_midnight(hours: str, hour: int, quiet: bool) -> None:
    now = NOON + (hour - 12) * HOUR
    found = policy.why_not(Retrain(quiet_hours=hours), replace(QUALITY_NOW, now=now))
    assert (found is not None and "quiet hours" in found) == quiet


def result(kind: str, at: int, verdict: str) -> dict[str, Any]:
    return {"kind": kind, "version": 1, "window_end": at, "verdict": verdict, "result": {"title": "t", "value": 0.6}}


def test_a_replay_shows_alerts_retrains_and_what_held_them_back() -> None:
    declared = Monitor(on_alert=["retrain"], persistence=2, retrain=Retrain(cool_down="2d"))
    verdicts = ["alert", "alert", "ok", "ok", "alert", "alert"]
    found = replay.replay(declared, [result(QUALITY, n * HOUR, verdict) for n, verdict in enumerate(verdicts)])
    assert [step["did"] for step in found] == [
        "an alert opens; a retrain starts",
        "the alert resolves",
        "an alert opens; no retrain: the last retrain was less than 2d ago",
    ]
    assert [step["at"] for step in found] == [HOUR, 3 * HOUR, 5 * HOUR]


def test_a_replay_of_good_windows_is_empty() -> None:
    assert replay.replay(Monitor(on_alert=["retrain"]), [result(QUALITY, n, "ok") for n in range(9)]) == []
