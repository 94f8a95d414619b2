"""Environments as modelyard.toml declares them: who decides, how a version rolls out, what takes it back."""

import math
import re
from collections.abc import Callable
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from modelyard.domain import freezes
from modelyard.domain.errors import ConfigError
from modelyard.domain.sections import seconds, share
from modelyard.domain.serving import check_cluster

Strategy = Literal["all-at-once", "blue-green", "canary", "linear", "shadow", "ab-test", "bandit"]
HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
"""A name as the gateway compares it: in small letters, without a port."""
Reward = Literal["label", "correct", "negative-error"]
DECLINED_ABOVE_CHAMPION = 0.01
"""So much more than the champion a version may decline of the same traffic, where nothing else is declared."""


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class RolloutPolicy(_Section, frozen=True):
    """How traffic moves to a new deployment, and how long each step is watched.

    all-at-once: at once, unwatched. blue-green: at once, watched for `bake`, back if it fails. canary: by `steps`.
    linear: by equal steps of `step`. shadow: asked beside the champion for `bake`, answering nobody; then by `steps`,
    or a person decides. ab-test: `share` of the traffic until the rewards differ beyond chance. bandit: the shares
    follow the rewards.
    """

    strategy: Strategy = "all-at-once"
    steps: list[str] = []
    step: str = ""
    share: str = "50%"
    bake: str = "10m"
    min_requests: int = 100
    reward: Reward | None = None
    """The reward of a prediction from its ground truth: the label itself, 1 if the prediction is the label (or on
    its side of 0.5), or minus the absolute error."""
    warm: str = "10m"
    """How long the replaced deployment stays warm and the new one is watched after the rollout."""

    def shares(self) -> list[float]:
        """The challenger's share of the traffic in each step before all of it."""
        listed = [share(text) for text in self.steps]
        if self.strategy == "linear":
            size = share(self.step)
            return [round(size * n, 6) for n in range(1, int(1 / size) + 1) if size * n < 1 - 1e-9]
        fixed: dict[str, list[float]] = {"all-at-once": [], "blue-green": [1.0], "canary": listed}
        fixed |= {"shadow": [0.0, *listed], "ab-test": [share(self.share)], "bandit": [share(self.share)]}
        return fixed[self.strategy]


class Prometheus(_Section, frozen=True):
    """A query whose value must not exceed `max`; `{endpoint}`, `{version}` and `{deployment}` are filled in."""

    url: str
    query: str
    max: float


class AbortIf(_Section, frozen=True):
    """Bounds that take a deployment back. Those `above`, `times` or `below` champion compare the same traffic."""

    error_rate: float | None = None
    error_rate_above_champion: float | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    latency_times_champion: float | None = None
    """The challenger's 95th percentile against the champion's: 1.5 is half as long again."""
    declined_rate: float | None = None
    """Answers of 400 and 422 for input that this version does not take while another may."""
    declined_rate_above_champion: float | None = None
    """DECLINED_ABOVE_CHAMPION without one; 1 never aborts."""
    prediction_drift: float | None = None
    """Population stability index between the challenger's and the champion's predictions."""
    reward_below_champion: float | None = None
    prometheus: Prometheus | None = None


class BeforeTraffic(_Section, frozen=True):
    """What a deployment must show before it gets any request."""

    smoke_rows: int = 20
    """Rows of the reference window that it must answer."""
    parity_tolerance: float = 1e-6
    """How far its answers may be from the predictions that were registered with the reference window."""
    latency_p95_ms: float | None = None
    memory_mb: float | None = None


class BreakGlass(_Section, frozen=True):
    """How long an approval against the rules holds, and which [notify] channels reach the approvers."""

    notify: list[str]
    expires: str = "4h"


class Tls(_Section, frozen=True):
    """PEM files of a gateway, relative to the project's folder; `key` is in the certificate's file by default."""

    certificate: str
    key: str = ""
    client_ca: str = ""
    """Callers must show a certificate that this authority signed (mutual TLS)."""


class Environment(_Section, frozen=True):
    """Who decides, and how a decision is carried out."""

    approval: Literal["gates", "people"] = "people"
    approvals: int = 1
    approver_role: str = "approver"
    separation_of_duties: bool = True
    rollout: RolloutPolicy = RolloutPolicy()
    abort_if: AbortIf = AbortIf()
    before_traffic: BeforeTraffic = BeforeTraffic()
    break_glass: BreakGlass | None = None
    freeze: list[str] = []
    """Windows (UTC) in which no rollout starts or widens: `Fri 16:00 - Mon 08:00`, `2026-12-20 - 2027-01-02`."""
    after: str | None = None
    """An environment in which the version must be serving before its rollout here starts."""
    target: Literal["local", "ray"] = "local"
    """Where workers run: as processes beside the gateway, or on a Ray cluster's nodes; an endpoint may differ."""
    ray: str = ""
    """The cluster of target `ray`, such as `10.0.0.5:6379`; that of this machine without it."""
    port: int = 0
    """The gateway's port; 0 picks a free one and keeps it."""
    grpc_port: int = 0
    """Where the gateway speaks the Open Inference Protocol over gRPC; 0: nowhere. Needs `modelyard[grpc]`."""
    tls: Tls | None = None
    """The gateway speaks HTTPS; without it, HTTP."""
    hosts: list[str] = []
    """Names by which clients address the gateway, beside those of this machine; the first is the one shown."""


def check(where: str, environment: Environment) -> None:
    """Raise ConfigError, naming the key under `where`, for a value that the types alone let pass."""
    check_rollout(f"{where}.rollout", environment.rollout)
    check_bounds(f"{where}.abort_if", environment.abort_if)
    check_reward(f"{where}.abort_if", environment.abort_if, environment.rollout)
    if environment.approvals < 1:
        raise ConfigError(f"{where}.approvals is {environment.approvals}.", remedy="Give 1 or more.")
    check_cluster(where, environment.target, environment.ray)
    for window in environment.freeze:
        _within(f"{where}.freeze", freezes.parse, window)
    if environment.break_glass is not None:
        _within(f"{where}.break_glass.expires", seconds, environment.break_glass.expires)
    for host in environment.hosts:
        if not HOST.fullmatch(host):
            raise ConfigError(f"{where}.hosts: {host!r} is no host's name.", remedy="Give one like 'ml.example.com'.")
    before = environment.before_traffic
    if before.smoke_rows < 0 or before.parity_tolerance < 0:
        raise ConfigError(f"{where}.before_traffic: numbers cannot be negative.", remedy="Give 0 or more.")


def check_rollout(where: str, policy: RolloutPolicy) -> None:
    """Raise ConfigError, naming the key under `where`, for a policy that could not be carried out."""
    for key in ("bake", "warm"):
        _within(f"{where}.{key}", seconds, getattr(policy, key))
    for text in policy.steps:
        _within(f"{where}.steps", share, text)
    _within(f"{where}.share", share, policy.share)
    if policy.steps != sorted(policy.steps, key=share):
        raise ConfigError(f"{where}.steps do not rise: {', '.join(policy.steps)}.", remedy="Order them upwards.")
    if policy.strategy == "canary" and not policy.steps:
        raise ConfigError(f"{where}: a canary needs steps.", remedy="Add steps = ['5%', '25%'].")
    if policy.strategy == "linear":
        _within(f"{where}.step", share, policy.step)
    if policy.strategy in ("ab-test", "bandit") and policy.reward is None:
        raise ConfigError(
            f"{where}: {policy.strategy} needs a reward.",
            remedy="Add reward = 'label', 'correct' or 'negative-error'.",
        )
    if policy.min_requests < 1:
        raise ConfigError(f"{where}.min_requests is {policy.min_requests}.", remedy="Give 1 or more.")


def check_bounds(where: str, bounds: AbortIf) -> None:
    """Raise ConfigError, naming the key under `where`, for a bound that could not be judged."""
    if bounds.prometheus is not None:
        _check_prometheus(f"{where}.prometheus", bounds.prometheus)
    for key in ("error_rate", "error_rate_above_champion", "declined_rate"):
        value = getattr(bounds, key)
        if value is not None and not 0 <= value < 1:
            raise ConfigError(f"{where}.{key} is {value:g}.", remedy="Give a share from 0 to below 1, such as 0.01.")
    above = bounds.declined_rate_above_champion
    if above is not None and not 0 <= above <= 1:
        raise ConfigError(
            f"{where}.declined_rate_above_champion is {above:g}.",
            remedy="Give a share from 0 to 1, such as 0.01; 1 never aborts.",
        )
    for key in ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "prediction_drift"):
        value = getattr(bounds, key)
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"{where}.{key} is {value:g}.", remedy="Give more than 0.")
    times = bounds.latency_times_champion
    if times is not None and not 1 <= times < math.inf:
        raise ConfigError(f"{where}.latency_times_champion is {times:g}.", remedy="Give 1 or more, such as 1.5.")
    below = bounds.reward_below_champion
    if below is not None and not 0 <= below < math.inf:
        raise ConfigError(f"{where}.reward_below_champion is {below:g}.", remedy="Give 0 or more.")


def check_reward(where: str, bounds: AbortIf, policy: RolloutPolicy) -> None:
    """Raise ConfigError for a bound on a reward that no rollout measures."""
    if bounds.reward_below_champion is not None and policy.reward is None:
        raise ConfigError(
            f"{where}.reward_below_champion needs a reward.", remedy="Add reward = 'label' to the rollout."
        )


def bounded(around: AbortIf, own: AbortIf | None) -> AbortIf:
    """An environment's bounds, but for those that an endpoint has of its own."""
    said = {name: getattr(own, name) for name in AbortIf.__struct_fields__ if own is not None}
    return msgspec.structs.replace(around, **{name: bound for name, bound in said.items() if bound is not None})


def _check_prometheus(where: str, asked: Prometheus) -> None:
    parts = urlsplit(asked.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{where}.url is {asked.url!r}.", remedy="Give one like 'http://prometheus:9090'.")
    if not asked.query.strip():
        raise ConfigError(f"{where}.query is empty.", remedy="Give a query that has one value, such as 'max(up)'.")
    if not math.isfinite(asked.max):
        raise ConfigError(f"{where}.max is {asked.max:g}.", remedy="Give a number that the query may not exceed.")


def _within(where: str, checked: Callable[[str], object], text: str) -> None:
    try:
        checked(text)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", remedy=error.remedy) from error
