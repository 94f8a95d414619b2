"""Names of metrics that are taken over the groups of a column, in the characters that MLflow's protocol allows."""


def by_group(metric: str, column: str | None) -> str:
    """`demographic_parity_ratio/carrier`: the metric over the groups of `column`; the metric itself without one."""
    return f"{metric}/{column}" if column else metric


def base(metric: str) -> str:
    """The metric without its column."""
    return metric.partition("/")[0]
