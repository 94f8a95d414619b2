"""How good a model is, as a step: metrics with uncertainty, slices, calibration, fairness."""

from typing import TYPE_CHECKING, Any

from modelyard.build.pipelines.graph import step
from modelyard.build.pipelines.recorder import log_metric

if TYPE_CHECKING:
    import pandas as pd

    from modelyard.build.pipelines.evaluation import Evaluation


@step
def evaluate(
    model: Any,
    rows: "pd.DataFrame",
    target: str,
    task: str | None = None,
    protected: list[str] | None = None,
    slices: list[str] | None = None,
    query: str | None = None,
    series: str | None = None,
    history: "pd.DataFrame | None" = None,
    season: int = 1,
    quantiles: dict[float, str] | None = None,
    horizon: str | None = None,
) -> "Evaluation":
    """The evaluation of a model on rows that it did not learn from, for `yard.register`; its metrics are logged.

    task: binary, multiclass, regression, ranking or forecasting; told by the model where it is not given. protected:
    columns for fairness and slices; slices: columns for slices alone. query: a ranking's column of queries. history,
    season, series, quantiles, horizon: of forecasts, whose rows are in order of time.
    """
    from modelyard.build.pipelines import evaluation  # late: importing steps must stay light

    found = evaluation.evaluate(
        model,
        rows,
        label=target,
        task=task,
        protected=protected or [],
        slices=slices or [],
        query=query,
        series=series,
        history=history,
        season=season,
        quantiles=quantiles,
        horizon=horizon,
    )
    for name, value in found.metrics.items():
        log_metric(name, value)
    return found


def plots(evaluation: "Evaluation") -> dict[str, str]:
    """An evaluation's plots as SVG text by name. Raises MissingExtra without matplotlib."""
    from modelyard.build.pipelines import curves  # late: see above

    return curves.plots(evaluation.curves)
