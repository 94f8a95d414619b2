"""Two models against each other on the same rows."""

from typing import TYPE_CHECKING, Any

from modelyard.build.pipelines.graph import step

if TYPE_CHECKING:
    import pandas as pd


@step
def compare(
    challenger: Any,
    champion: Any,
    rows: "pd.DataFrame",
    target: str,
    task: str | None = None,
    query: str | None = None,
    series: str | None = None,
) -> dict[str, Any]:
    """{metric: {value, low, high}} of challenger - champion on the same rows, each with its 95% interval.

    query: a ranking's column of queries; series: the column of the series of forecasts.
    """
    from modelyard.build.pipelines import evaluation, tasks  # late: importing steps must stay light

    beside = [name for name in (target, query, series) if name]
    inputs = [name for name in rows.columns if name not in beside]
    columns = evaluation.inputs_of(challenger, rows, target, None, inputs)
    how: dict[str, Any] = {"task": task or tasks.task_of(challenger), "label": target, "features": columns}
    how |= {"query": query, "series": series}
    return evaluation.compare_on_same_rows(challenger, champion, rows, how)["difference"]
