"""How predictions of a task are judged: on all rows or some, alone or against another model's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelyard.build.pipelines import tasks
from modelyard.domain.errors import Invalid
from modelyard.kit import forecasts, relevance
from modelyard.kit.ranking import roc_auc
from modelyard.kit.scores import Measured

RESAMPLES = 200
SEED = 20_130_101
MOST_SCALES = 1000
"""Series whose scales are kept with the evaluation, so that a later model can be compared by mase."""


@dataclass(frozen=True)
class Judge:
    """groups: the queries of a ranking, or the series of forecasts, shape (rows,); of other tasks None.

    scales: by series what mase divides by; quantiles: by level the predicted values, shape (rows,).
    """

    task: str
    groups: Any = None
    scales: Mapping[Any, float] | None = None
    quantiles: Mapping[float, Any] = field(default_factory=dict[float, Any])

    def measure(self, truth: Any, prediction: Any, rows: Any = slice(None)) -> Measured:
        """The metrics of the chosen rows."""
        truth, prediction = truth[rows], prediction[rows]
        if self.task == "ranking":
            return relevance.ranking(truth, prediction, self.groups[rows])
        if self.task == "forecasting":
            levels = {level: values[rows] for level, values in self.quantiles.items()}
            return forecasts.forecast(truth, prediction, self.groups[rows], self.scales, levels or None)
        return tasks.measure(self.task, truth, prediction)

    def differences(self, truth: Any, first: Any, second: Any) -> dict[str, dict[str, float]]:
        """{metric: {value, low, high}} of first - second on the same rows, each with its 95% interval.

        Of classes a paired percentile bootstrap of RESAMPLES resamples with a fixed seed (Efron and Tibshirani 1993,
        ch. 13); of rankings paired by query, of forecasts by row, allowing for errors that follow one another.
        """
        if self.task in ("binary", "multiclass"):
            return _bootstrapped(self.task, truth, first, second)
        if self.task == "ranking":
            return relevance.differences(truth, first, second, self.groups)
        if self.task == "forecasting":
            return forecasts.differences(truth, first, second, self.groups, self.scales)
        from modelyard.registry.paired import differences  # late: numpy comes with it

        return differences(truth, second, first)


def judge_of(
    task: str,
    frame: Any,
    query: str | None = None,
    series: str | None = None,
    scales: Mapping[Any, float] | None = None,
    quantiles: Mapping[float, Any] | None = None,
) -> Judge:
    """The judge of a task on a frame. Raises Invalid for a ranking without its column of queries."""
    import numpy as np  # late: importing modelyard must not load it

    if task == "ranking":
        if query is None:
            raise Invalid("A ranking is judged within queries.", remedy="Name their column: query=...")
        return Judge(task, frame[query].to_numpy())
    if task != "forecasting":
        return Judge(task)
    groups = frame[series].to_numpy() if series else np.zeros(len(frame), int)
    levels = {level: frame[column].to_numpy(dtype=float) for level, column in (quantiles or {}).items()}
    return Judge(task, groups, scales, levels)


def scales_of(history: Any, label: str, series: str | None, season: int) -> dict[Any, float] | None:
    """By series the error of the seasonal naive forecast in its history; None without a history."""
    if history is None:
        return None
    groups = history.groupby(series)[label] if series else [(0, history[label])]
    return {name: forecasts.naive_scale(values.to_numpy(dtype=float), season) for name, values in groups}


def kept_scales(scales: Mapping[Any, float] | None) -> list[list[Any]]:
    """Scales as JSON keeps them; none of more than MOST_SCALES series."""
    if scales is None or len(scales) > MOST_SCALES:
        return []
    return [[name.item() if hasattr(name, "item") else name, scale] for name, scale in scales.items()]


def _bootstrapped(task: str, truth: Any, first: Any, second: Any) -> dict[str, dict[str, float]]:
    """{metric: {value, low, high}} of first - second over resampled rows."""
    import numpy as np  # late: see above

    def squares(rows: Any) -> float:
        return float(((first[rows] - truth[rows]) ** 2 - (second[rows] - truth[rows]) ** 2).mean())

    def areas(rows: Any) -> float:
        return roc_auc(truth[rows], first[rows]) - roc_auc(truth[rows], second[rows])

    def right(rows: Any) -> float:
        return float((first[rows] == truth[rows]).mean() - (second[rows] == truth[rows]).mean())

    measures: dict[str, Callable[[Any], float]] = {"accuracy": right} if task == "multiclass" else {"brier": squares}
    if task == "binary" and 0 < truth.sum() < len(truth):
        measures["roc_auc"] = areas
    random, draws = np.random.default_rng(SEED), {name: list[float]() for name in measures}
    for _ in range(RESAMPLES):
        rows = random.integers(0, len(truth), len(truth))
        for name, difference in measures.items():
            if name != "roc_auc" or 0 < truth[rows].sum() < len(rows):
                draws[name].append(difference(rows))
    every = np.arange(len(truth))
    return {
        name: {
            "value": difference(every),
            "low": float(np.percentile(draws[name], 2.5)),
            "high": float(np.percentile(draws[name], 97.5)),
        }
        for name, difference in measures.items()
    }
