"""What a project declares of a model's monitor: windows, limits, alarms, retraining."""

import re
from typing import Any, Literal

import msgspec

from modelyard.domain.errors import ConfigError
from modelyard.domain.sections import check_seconds

HOURS = re.compile(r"^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)$")


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Window(_Section, frozen=True):
    """How much is judged at once: rows, or a time. `slide` makes windows overlap: a new one starts every slide."""

    rows: int | None = None
    time: str | None = None
    slide: int | str | None = None


class DriftLimits(_Section, frozen=True):
    """columns_share: an alarm needs this share of what the model uses to drift (columns weighted by importance).

    against: `reference` (what the version was evaluated on), `rolling` (the 30 windows before), or a duration such as
    `7d` or `365d` (the same window so long before).
    """

    columns_share: float = 0.3
    against: str = "reference"
    ignore: list[str] = []


class QualityLimits(_Section, frozen=True):
    """max_regression: how much worse than registered a metric may get. metrics: those judged besides the primary."""

    max_regression: float = 0.05
    metrics: list[str] = []
    estimate: bool = True
    """Whether quality is estimated while labels are late."""


class BiasLimits(_Section, frozen=True):
    """min_ratio: the lowest rate of positive predictions of a group / the highest. least_rows: of each group."""

    min_ratio: float | None = None
    max_quality_gap: float | None = None
    least_rows: int = 100


class Explanations(_Section, frozen=True):
    """rows: how many of a window are explained. min_ndcg: how alike the ranking of attributions must be, up to 1."""

    rows: int = 200
    min_ndcg: float = 0.9


class ServiceLimits(_Section, frozen=True):
    latency_p99_ms: float | None = None
    error_rate: float | None = None
    least_rows: int | None = None
    """A window of time with fewer rows is an alarm: the traffic has gone."""


class Retrain(_Section, frozen=True):
    """When a retrain may start by itself: pipeline parameters, pause between two, how many a week, and when not.

    on: which alerts start one; drift does so only while quality is neither measured nor estimated. every: a schedule
    besides alerts. new_labels: start one when so many labelled rows came since the last. growth: start one when the
    labelled rows since the last are this share of those before it (0.25: a quarter more to learn from).
    most_unhelpful: after so many retrains in a row without a better version a person is asked instead of another.
    """

    params: dict[str, Any] = {}
    cool_down: str = "1h"
    budget_per_week: int = 7
    on: tuple[Literal["model_quality", "estimate", "drift", "bias"], ...] = ("model_quality", "estimate", "drift")
    every: str | None = None
    new_labels: int | None = None
    growth: float | None = None
    quiet_hours: str | None = None
    """Hours of the day (UTC) without a retrain, such as `22:00-06:00`."""
    most_unhelpful: int = 2


class Monitor(_Section, frozen=True):
    """persistence: alarms in a row that open an alert. cool_down: pause before one that resolved itself reopens."""

    every: str = "1h"
    window: Window = Window(rows=5000)
    drift: DriftLimits = DriftLimits()
    model_quality: QualityLimits = QualityLimits()
    bias: BiasLimits = BiasLimits()
    service: ServiceLimits = ServiceLimits()
    explanations: Explanations | None = None
    """Whether what the model looks at is compared with the reference; it costs predictions, so it is asked for."""
    streams: list[str] = []
    """What is watched row by row besides windows: inputs, `prediction`, `error` (of labelled rows). Needs river."""
    constraints: str | None = None
    """A TOML file of data constraints beside modelyard.toml; suggested from the reference without one."""
    on_alert: list[str] = []
    persistence: int = 1
    cool_down: str = "1h"
    retrain: Retrain = Retrain()


def check(where: str, monitor: Monitor, channels: list[str]) -> None:
    """Raise ConfigError for a value that its type allows and its meaning does not."""
    retrain = monitor.retrain
    durations = {"every": monitor.every, "cool_down": monitor.cool_down, "retrain.cool_down": retrain.cool_down}
    if retrain.every is not None:
        durations["retrain.every"] = retrain.every
    if monitor.drift.against not in ("reference", "rolling"):
        durations["drift.against"] = monitor.drift.against
    for key, text in durations.items():
        check_seconds(f"{where}.{key}", text)
    _check_window(f"{where}.window", monitor.window)
    _check_explanations(f"{where}.explanations", monitor.explanations)
    if retrain.quiet_hours is not None and not HOURS.match(retrain.quiet_hours):
        raise ConfigError(
            f"{where}.retrain.quiet_hours is {retrain.quiet_hours!r}.", remedy="Write hours of UTC: '22:00-06:00'."
        )
    allowed = ["retrain", "rollback", *(f"notify:{name}" for name in channels)]
    for action in monitor.on_alert:
        if action not in allowed:
            raise ConfigError(
                f"{where}.on_alert: {action!r} is not known.", remedy=f"Allowed: {', '.join(sorted(allowed))}."
            )


def _check_explanations(where: str, declared: Explanations | None) -> None:
    if declared is not None and not 20 <= declared.rows <= 5000:
        raise ConfigError(f"{where}.rows is {declared.rows}.", remedy="Give a whole number from 20 to 5000.")
    if declared is not None and not 0 < declared.min_ndcg <= 1:
        raise ConfigError(f"{where}.min_ndcg is {declared.min_ndcg:g}.", remedy="Give more than 0 and at most 1.")


def _check_window(where: str, window: Window) -> None:
    if (window.rows is None) == (window.time is None):
        raise ConfigError(f"{where} takes either rows or time.", remedy="Write window = { rows = 5000 }.")
    if window.time is not None:
        check_seconds(f"{where}.time", window.time)
    if window.slide is not None and isinstance(window.slide, int) != (window.rows is not None):
        raise ConfigError(f"{where}.slide is not in the window's unit.", remedy="Give rows for rows, time for time.")
    if isinstance(window.slide, str):
        check_seconds(f"{where}.slide", window.slide)
    if window.rows is not None and (window.rows < 1 or window.rows % int(window.slide or window.rows)):
        raise ConfigError(f"{where}.rows is not a multiple of slide.", remedy="Write { rows = 5000, slide = 1000 }.")
