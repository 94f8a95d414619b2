"""How good forecasts are, beside the naive one, and how honest their intervals."""

from collections.abc import Mapping
from typing import Any

from modelyard.kit.scores import Measured, interval


def forecast(
    actual: Any,
    predicted: Any,
    series: Any,
    scales: Mapping[Any, float] | None = None,
    quantiles: Mapping[float, Any] | None = None,
) -> Measured:
    """mae, rmse, bias, smape; mase with `scales`; pinball and coverage with `quantiles`. Rows are in order of time.

    actual, predicted: shape (rows,); series: what each row belongs to; scales: by series the mean absolute error of
    the seasonal naive forecast in its history (`naive_scale`); quantiles: by level the predicted values.
    smape is a share of 0 to 2 (Makridakis 1993), mase that of Hyndman and Koehler 2006, pinball the mean over levels
    (Koenker and Bassett 1978), coverage the share of rows between the lowest and the highest level. Standard errors
    allow for errors that follow one another within a series (Newey and West 1987); series count as independent.
    """
    import numpy as np  # late: kit is imported everywhere

    off = predicted - actual
    rows = _losses(actual, predicted, series, scales) | {"bias": off}
    if quantiles:
        losses = [_pinball(actual, values, level) for level, values in quantiles.items()]
        rows["pinball"] = np.mean(losses, axis=0)
        low, high = quantiles[min(quantiles)], quantiles[max(quantiles)]
        rows["coverage"] = ((low <= actual) & (actual <= high)).astype(float)
    metrics = {name: float(values.mean()) for name, values in rows.items()}
    errors = {name: _error(values, series) for name, values in rows.items()}
    metrics["rmse"] = float(np.sqrt((off**2).mean()))
    errors["rmse"] = _error(off**2, series) / (2 * metrics["rmse"]) if metrics["rmse"] else 0.0
    return Measured(metrics, errors)


def differences(
    actual: Any, first: Any, second: Any, series: Any, scales: Mapping[Any, float] | None = None
) -> dict[str, dict[str, float]]:
    """{metric: {value, low, high}} of first - second on the same rows: mae, smape, rmse, and mase with `scales`.

    The 95% intervals are of the paired differences, which may follow one another within a series (see `forecast`);
    that of rmse by the delta method.
    """
    import numpy as np  # late: see above

    ours, theirs = (_losses(actual, predicted, series, scales) for predicted in (first, second))
    found = {
        name: interval(float((ours[name] - theirs[name]).mean()), _error(ours[name] - theirs[name], series))
        for name in ours
    }
    squares = [(predicted - actual) ** 2 for predicted in (first, second)]
    roots = [float(np.sqrt(each.mean())) for each in squares]
    if min(roots) > 0:
        paired = squares[0] / (2 * roots[0]) - squares[1] / (2 * roots[1])
        found["rmse"] = interval(roots[0] - roots[1], _error(paired, series))
    return found


def _losses(actual: Any, predicted: Any, series: Any, scales: Mapping[Any, float] | None) -> dict[str, Any]:
    """By metric the loss of each row, shape (rows,), whose mean the metric is."""
    import numpy as np  # late: see above

    sizes, reach = np.abs(predicted - actual), np.abs(actual) + np.abs(predicted)
    rows: dict[str, Any] = {"mae": sizes}
    rows["smape"] = np.where(reach > 0, 2 * sizes / np.where(reach > 0, reach, 1), 0.0)
    if scales is not None:
        scale = np.array([scales.get(name, np.nan) for name in series.tolist()], dtype=float)
        if np.isfinite(scale).all() and (scale > 0).all():
            rows["mase"] = sizes / scale
    return rows


def naive_scale(history: Any, season: int = 1) -> float:
    """Mean absolute error of the forecast "as `season` steps before" over one series' history, in order of time.

    NaN for a history that is no longer than a season.
    """
    import numpy as np  # late: see above

    changes = np.abs(history[season:] - history[:-season])
    return float(changes.mean()) if len(changes) else float("nan")


def _pinball(actual: Any, predicted: Any, level: float) -> Any:
    import numpy as np  # late: see above

    off = actual - predicted
    return np.maximum(level * off, (level - 1) * off)


def _error(values: Any, series: Any) -> float:
    """Standard error of the mean of values that are correlated within each series, by Bartlett's weights."""
    import numpy as np  # late: see above

    total = 0.0
    for name in np.unique(series):
        chosen = values[series == name] - values.mean()
        count = len(chosen)
        lags = min(count - 1, int(4 * (count / 100) ** (2 / 9)))
        spread = float((chosen**2).sum())
        for lag in range(1, lags + 1):
            spread += 2 * (1 - lag / (lags + 1)) * float((chosen[lag:] * chosen[:-lag]).sum())
        total += max(spread, 0.0)
    return total**0.5 / len(values)
