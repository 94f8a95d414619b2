"""Names of metrics: which of them are better when smaller, and those that are taken over the groups of a column."""

LOWER_IS_BETTER = frozenset(
    {
        *("brier", "log_loss", "expected_calibration_error"),
        *("rmse", "mae", "mse", "mape", "median_absolute_error", "max_error"),
        *("mase", "smape", "pinball", "forgotten"),
    }
)
PRIMARY = {
    "binary": "roc_auc",
    "multiclass": "accuracy",
    "regression": "rmse",
    "ranking": "ndcg_at_10",
    "forecasting": "mae",
}
"""By task the metric that is looked at when a project names none."""


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of `metric` is better, by its name."""
    name = base(metric)
    return name in LOWER_IS_BETTER or name.startswith("latency")


def by_group(metric: str, column: str | None) -> str:
    """`demographic_parity_ratio/carrier`: the metric over the groups of `column`; the metric itself without one."""
    return f"{metric}/{column}" if column else metric


def base(metric: str) -> str:
    """The metric without its column."""
    return metric.partition("/")[0]
