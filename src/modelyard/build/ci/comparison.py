"""What the report says beside the findings: metrics against the champion, drift of the data, cost and time."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.build.ci.context import Context
from modelyard.build.ci.pipeline_checks import evaluation_of
from modelyard.domain.metrics import lower_is_better
from modelyard.kit.scores import Z95

"""Two-sided 95% quantile of the standard normal distribution."""


@dataclass(frozen=True)
class MetricRow:
    """A candidate's metric, beside the champion's on the same rows. low, high: 95% interval of the difference."""

    metric: str
    candidate: float
    champion: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> str:
        """`better` or `worse` when the interval excludes zero; within noise; unknown without an interval."""
        if self.difference is None:
            return ""
        if self.low is None or self.high is None:
            return "noise unknown"
        if self.low <= 0 <= self.high:
            return "within noise"
        return "better" if (self.difference < 0) == lower_is_better(self.metric) else "worse"


def metric_rows(context: Context, model: str) -> list[MetricRow]:
    """Every metric that the candidate's evaluation holds."""
    evaluation = evaluation_of(context, model) or {}
    champion: dict[str, Any] = evaluation.get("champion") or {}
    rows: list[MetricRow] = []
    for metric, value in sorted(evaluation.get("metrics", {}).items()):
        held = champion.get("metrics", {}).get(metric)
        if held is None:
            rows.append(MetricRow(metric, value))
            continue
        paired = champion.get("difference", {}).get(metric)
        if paired:
            rows.append(MetricRow(metric, value, held, paired["value"], paired["low"], paired["high"]))
            continue
        errors = [side.get("standard_errors", {}).get(metric) for side in (evaluation, champion)]
        margin = None if None in errors else Z95 * sum(error**2 for error in errors) ** 0.5
        difference = value - held
        low, high = (None, None) if margin is None else (difference - margin, difference + margin)
        rows.append(MetricRow(metric, value, held, difference, low, high))
    return rows


def drift_rows(context: Context, model: str) -> list[dict[str, Any]] | None:
    """The drift of each column of the model's evaluation data since the champion's; None when it cannot be told."""
    champion = context.champions.get(model)
    found = next((run.references[model] for run in context.rehearsals.values() if model in run.references), None)
    if context.drift is None or champion is None or champion.reference is None or found is None:
        return None
    return context.drift(champion.reference, Path(found))


def cost(context: Context) -> dict[str, Any]:
    """Seconds, CPU seconds and peak memory of the pipelines that ran, and their price where one is declared."""
    runs = list(context.rehearsals.values())
    cpu = sum(run.cpu_seconds for run in runs)
    price = context.project.ci.cpu_hour_price
    return {
        "seconds": sum(run.seconds for run in runs),
        "cpu_seconds": cpu,
        "peak_bytes": max((run.peak_bytes for run in runs), default=0),
        "price": None if price is None else cpu / 3600 * price,
    }
