"""Environments in modelyard.toml: strategies, bounds and freeze windows, with errors that name the key."""

from datetime import UTC, datetime

import pytest

from modelyard.domain import freezes
from modelyard.domain.environments import RolloutPolicy
from modelyard.domain.errors import ConfigError
from modelyard.domain.project import parse_project


def declare(text: str) -> None:
    parse_project(f'[project]\nname = "x"\n[environments.production]\n{text}\n')


@pytest.mark.parametrize(
    "text",
    [
        'rollout = { strategy = "blue-green", bake = "5m" }',
        'rollout = { strategy = "linear", step = "10%" }',
        'rollout = { strategy = "shadow", steps = ["10%"] }',
        'rollout = { strategy = "ab-test", share = "30%", reward = "label" }',
        'rollout = { strategy = "bandit", reward = "correct" }\nabort_if = { reward_below_champion = 0.1 }',
        "abort_if = { error_rate_above_champion = 0.01, latency_times_champion = 1.5, prediction_drift = 0.2 }",
        'abort_if = { prometheus = { url = "http://p:9090", query = "up", max = 1 } }',
        'freeze = ["Fri 16:00 - Mon 08:00", "2026-12-20 - 2027-01-02"]',
        "before_traffic = { smoke_rows = 100, latency_p95_ms = 20, memory_mb = 500 }",
        'target = "ray"\nray = "10.0.0.5:6379"',
    ],
)
def test_what_may_be_declared(text: str) -> None:
    declare(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('rollout = { strategy = "canary" }', "production.rollout: a canary needs steps"),
        ('ray = "10.0.0.5:6379"', "production.ray without target = 'ray'"),
        ('target = "ray"\nray = "ray://head:10001"', "the door for clients from elsewhere"),
        ('rollout = { strategy = "canary", steps = ["25%", "5%"] }', "steps do not rise"),
        ('rollout = { strategy = "canary", steps = ["0%"] }', "rollout.steps: '0%'"),
        ('rollout = { strategy = "canery" }', "canery"),
        ('rollout = { strategy = "linear" }', "rollout.step: ''"),
        ('rollout = { strategy = "ab-test" }', "ab-test needs a reward"),
        ('rollout = { strategy = "bandit", reward = "money" }', "money"),
        ('rollout = { bake = "soon" }', "rollout.bake: 'soon'"),
        ('rollout = { warm = "ever" }', "rollout.warm: 'ever'"),
        ("rollout = { min_requests = 0 }", "min_requests is 0"),
        ("abort_if = { error_rate = 1.5 }", "error_rate is 1.5"),
        ("abort_if = { latency_p95_ms = 0 }", "latency_p95_ms is 0"),
        ("abort_if = { latency_p99_ms = nan }", "latency_p99_ms is nan"),
        ("abort_if = { reward_below_champion = -1 }", "reward_below_champion is -1"),
        ('abort_if = { prometheus = { url = "p:9090", query = "up", max = 1 } }', "prometheus.url is 'p:9090'"),
        ('abort_if = { prometheus = { url = "http://p", query = " ", max = 1 } }', "prometheus.query is empty"),
        ('abort_if = { prometheus = { url = "http://p", query = "up", max = inf } }', "prometheus.max is inf"),
        ("abort_if = { latency_times_champion = 0.5 }", "latency_times_champion is 0.5"),
        ("abort_if = { reward_below_champion = 0.1 }", "needs a reward"),
        ("abort_if = { eror_rate = 0.1 }", "Did you mean 'error_rate'"),
        ('abort_if = { prometheus = { url = "x", query = "y" } }', "max"),
        ('freeze = ["on fridays"]', "'on fridays' is not a freeze window"),
        ('freeze = ["2027-01-02 - 2026-12-20"]', "not a freeze window"),
        ('freeze = ["Fri 25:00 - Mon 08:00"]', "not a freeze window"),
        ('break_glass = { notify = ["nobody"] }', "break_glass.notify: 'nobody' is not known"),
        ("break_glass = { }", "notify"),
        ("before_traffic = { smoke_rows = -1 }", "cannot be negative"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        declare(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("policy", "shares"),
    [
        (RolloutPolicy(), []),
        (RolloutPolicy(strategy="blue-green"), [1.0]),
        (RolloutPolicy(strategy="canary", steps=["5%", "25%"]), [0.05, 0.25]),
        (RolloutPolicy(strategy="linear", step="25%"), [0.25, 0.5, 0.75]),
        (RolloutPolicy(strategy="linear", step="30%"), [0.3, 0.6, 0.9]),
        (RolloutPolicy(strategy="linear", step="100%"), []),
        (RolloutPolicy(strategy="shadow"), [0.0]),
        (RolloutPolicy(strategy="shadow", steps=["10%"]), [0.0, 0.1]),
        (RolloutPolicy(strategy="ab-test", share="20%"), [0.2]),
    ],
)
def test_the_shares_of_each_strategy(policy: RolloutPolicy, shares: list[float]) -> None:
    assert policy.shares() == pytest.approx(shares)


@pytest.mark.parametrize(
    ("window", "now", "until"),
    [
        ("Fri 16:00 - Mon 08:00", "2026-11-27 16:00", "2026-11-30 08:00"),
        ("Fri 16:00 - Mon 08:00", "2026-11-29 23:59", "2026-11-30 08:00"),
        ("Fri 16:00 - Mon 08:00", "2026-11-30 08:00", None),
        ("Fri 16:00 - Mon 08:00", "2026-11-27 15:59", None),
        ("Mon 09:00 - Mon 17:00", "2026-11-30 12:00", "2026-11-30 17:00"),
        ("2026-12-20 - 2027-01-02", "2026-12-20 00:00", "2027-01-03 00:00"),
        ("2026-12-20 - 2027-01-02", "2027-01-02 23:59", "2027-01-03 00:00"),
        ("2026-12-20 - 2027-01-02", "2027-01-03 00:00", None),
        ("2026-12-20 12:00 - 2026-12-20 18:00", "2026-12-20 12:30", "2026-12-20 18:00"),
    ],
)
def test_freeze_windows(window: str, now: str, until: str | None) -> None:
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    found = freezes.frozen_until([window], int(moment.timestamp() * 1000))
    assert (found.strftime("%Y-%m-%d %H:%M") if found else None) == until
