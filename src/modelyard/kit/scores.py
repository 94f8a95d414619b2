"""How good predictions are, metric by metric, each with its standard error where one is known."""

from typing import Any, NamedTuple

from modelyard.kit.ranking import auc_standard_error, roc_auc

DRAWS = 500
SEED = 20_130_101
Z95 = 1.959964
"""Two-sided 95% quantile of the standard normal distribution."""


class Measured(NamedTuple):
    """Metrics by name and the standard errors of those that have one."""

    metrics: dict[str, float]
    errors: dict[str, float]


def mean_error(values: Any) -> float:
    """Standard error of a mean of independent values."""
    return float(values.std() / max(len(values), 1) ** 0.5)


def interval(value: float, error: float) -> dict[str, float]:
    """{value, low, high}: a difference with its two-sided 95% interval, by the normal distribution."""
    return {"value": value, "low": value - Z95 * error, "high": value + Z95 * error}


def share_interval(hits: int, rows: int) -> dict[str, float]:
    """{value, low, high}: a share with its 95% interval, by Wilson 1927, which holds for few rows too."""
    share, weight = hits / rows, Z95**2 / rows
    centre = (share + weight / 2) / (1 + weight)
    margin = Z95 / (1 + weight) * (share * (1 - share) / rows + weight / (4 * rows)) ** 0.5
    return {"value": share, "low": centre - margin, "high": centre + margin}


def binary(labels: Any, scores: Any) -> Measured:
    """Metrics of probabilities of class 1 against labels of 0 and 1, both shape (rows,).

    Standard errors: of means; of roc_auc by Hanley and McNeil 1982. One class alone has no area and no precision.
    """
    import numpy as np  # late: kit is imported everywhere

    clipped = np.clip(scores, 1e-15, 1 - 1e-15)
    positive = scores >= 0.5
    losses = {
        "brier": (scores - labels) ** 2,
        "log_loss": -(labels * np.log(clipped) + (1 - labels) * np.log(1 - clipped)),
        "accuracy": (positive == (labels == 1)).astype(float),
    }
    metrics = {name: float(values.mean()) for name, values in losses.items()}
    errors = {name: mean_error(values) for name, values in losses.items()}
    metrics |= {"base_rate": float(labels.mean()), "positive_rate": float(positive.mean())}
    positives = int(labels.sum())
    if 0 < positives < len(labels):
        metrics["roc_auc"] = roc_auc(labels, scores)
        metrics["average_precision"] = average_precision(labels, scores)
        errors["roc_auc"] = auc_standard_error(metrics["roc_auc"], positives, len(labels) - positives)
    return Measured(metrics, errors)


def average_precision(labels: Any, scores: Any) -> float:
    """The mean precision over the thresholds at which recall rises; equal scores are one threshold."""
    import numpy as np  # late: see above

    order = np.argsort(-scores, kind="stable")
    hits, ordered = np.cumsum(labels[order]), scores[order]
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    gained = np.diff(hits[ends], prepend=0)
    return float((gained * hits[ends] / (ends + 1)).sum() / hits[-1])


def average_precision_error(value: float, positives: int) -> float:
    """Standard error of an average precision over so many positives (Boyd, Eng and Page 2013)."""
    return (value * (1 - value) / positives) ** 0.5


def multiclass(labels: Any, predicted: Any, probabilities: Any = None, classes: Any = None) -> Measured:
    """Metrics of predicted classes against true ones, both shape (rows,), of any one kind.

    probabilities: shape (rows, classes) in the order of `classes`; adds log_loss. macro_f1 and balanced_accuracy are
    means over the classes that occur in `labels` (and, for F1, in `predicted`); their standard errors are those of
    DRAWS confusion matrices drawn from the one found (a parametric bootstrap, Efron and Tibshirani 1993, ch. 6.5).
    """
    import numpy as np  # late: see above

    right = (labels == predicted).astype(float)
    metrics, errors = {"accuracy": float(right.mean())}, {"accuracy": mean_error(right)}
    names, codes = np.unique(np.concatenate([labels, predicted]), return_inverse=True)
    rows, count = len(labels), len(names)
    found = np.bincount(codes[:rows] * count + codes[rows:], minlength=count * count)
    drawn = np.random.default_rng(SEED).multinomial(rows, found / rows, size=DRAWS)
    for name, values, draws in zip(
        ("balanced_accuracy", "macro_f1"),
        of_confusion(found.reshape(1, count, count)),
        of_confusion(drawn.reshape(DRAWS, count, count)),
        strict=True,
    ):
        metrics[name], errors[name] = float(values[0]), float(draws.std())
    if probabilities is not None:
        losses = log_losses(labels, probabilities, classes)
        metrics["log_loss"], errors["log_loss"] = float(losses.mean()), mean_error(losses)
    return Measured(metrics, errors)


def log_losses(labels: Any, probabilities: Any, classes: Any) -> Any:
    """-log of the probability of each row's true class, shape (rows,); of a class that is not known 1e-15.

    probabilities: shape (rows, classes), in the order of `classes`.
    """
    import numpy as np  # late: see above

    names = np.asarray(classes)
    order = np.argsort(names, kind="stable")
    place = np.minimum(np.searchsorted(names[order], labels), len(names) - 1)
    known = names[order][place] == labels
    chosen = np.where(known, probabilities[np.arange(len(labels)), order[place]], 0.0)
    return -np.log(np.clip(chosen, 1e-15, 1.0))


def of_confusion(counts: Any) -> tuple[Any, Any]:
    """(balanced accuracy, macro F1) of confusion matrices, shape (draws, true, predicted); each shape (draws,)."""
    import numpy as np  # late: see above

    hits = np.diagonal(counts, axis1=1, axis2=2).astype(float)
    true, said = counts.sum(axis=2), counts.sum(axis=1)
    recall = np.where(true > 0, hits / np.maximum(true, 1), np.nan)
    f1 = np.where(true + said > 0, 2 * hits / np.maximum(true + said, 1), np.nan)
    return np.nanmean(recall, axis=1), np.nanmean(f1, axis=1)


def regression(labels: Any, predictions: Any) -> Measured:
    """Metrics of numbers against numbers, both shape (rows,).

    Standard errors: of means; of rmse and r2 by the delta method, for r2 taking the labels' spread as given.
    """
    import numpy as np  # late: see above

    off = predictions - labels
    squares, sizes = off**2, np.abs(off)
    rmse, spread = float(np.sqrt(squares.mean())), float(labels.var())
    metrics = {"rmse": rmse, "mae": float(sizes.mean()), "bias": float(off.mean())}
    metrics["median_absolute_error"] = float(np.median(sizes))
    errors = {"mae": mean_error(sizes), "bias": mean_error(off)}
    errors["rmse"] = mean_error(squares) / (2 * rmse) if rmse else 0.0
    if spread:
        metrics = {"r2": 1 - rmse**2 / spread, **metrics}
        errors["r2"] = mean_error(squares) / spread
    if np.all(labels != 0):
        shares = sizes / np.abs(labels)
        metrics["mape"], errors["mape"] = float(shares.mean()), mean_error(shares)
    return Measured(metrics, errors)
