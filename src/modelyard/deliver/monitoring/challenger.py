"""A challenger: trained on the window that time-ordered validation prefers, and compared before it may serve."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelyard.deliver.monitoring import metrics
from modelyard.deliver.monitoring.metrics import worse_by
from modelyard.domain.errors import MissingExtra

Fit = Callable[[Any, Any, Any], Any]
"""(features frame, labels, weights or None) -> a model with predict_proba or predict."""
Known = dict[int, dict[str, tuple[float, float]]]
"""Row where a validation window starts -> candidate -> (loss, standard error) there."""
RECENT_WINDOWS = 6
FOLDS = 3
GUARDED = {"binary": ("brier", "log_loss"), "multiclass": (), "regression": ("rmse", "mae")}
"""What a challenger may not lose while its primary metric gains."""
HALF_LIFE_WINDOWS = 4
SEED = 20_130_101


@dataclass(frozen=True)
class Verdict:
    """What the comparison on the newest labelled window said; `forgotten`: how much worse on the oldest one."""

    trained_on: str
    passed: bool
    why: str
    challenger: dict[str, float]
    champion: dict[str, float]
    forgotten: float


def predictions(model: Any, frame: Any, task: str) -> Any:
    """Probabilities of class 1, classes, or numbers, shape (rows,)."""
    if task == "binary":
        return np.asarray(model.predict_proba(frame)[:, 1], dtype=float)
    return np.asarray(model.predict(frame), dtype=float)


def training_windows(rows: int, window_rows: int) -> dict[str, tuple[int, Any]]:
    """(first row, weights or None) of each candidate window over `rows` past rows, in the order of time."""
    recent = max(0, rows - RECENT_WINDOWS * window_rows)
    ages = np.arange(rows, 0, -1) / (HALF_LIFE_WINDOWS * window_rows)
    found: dict[str, tuple[int, Any]] = {"all": (0, None), "weighted": (0, 0.5**ages)}
    if recent > 0:
        found["recent"] = (recent, None)
    return found


def train(fit: Fit, past: Any, label: str, window: tuple[int, Any], most_rows: int) -> Any:
    """A model of one candidate window; longer ones are thinned evenly to `most_rows`."""
    return fit(*_training(past, label, window, most_rows))


def _training(past: Any, label: str, window: tuple[int, Any], most_rows: int) -> tuple[Any, Any, Any]:
    first, weights = window
    chosen = np.arange(first, len(past))
    if len(chosen) > most_rows:
        chosen = chosen[np.linspace(0, len(chosen) - 1, most_rows).astype(int)]
    rows = past.iloc[chosen]
    return rows.drop(columns=label), rows[label].to_numpy(), None if weights is None else weights[chosen]


def rank(
    fit: Fit,
    past: Any,
    label: str,
    task: str,
    primary: str,
    window_rows: int,
    most_rows: int,
    known: Known | None = None,
) -> list[str]:
    """The candidate windows, the preferred first, by how they did on the FOLDS newest windows of the past.

    Each is trained on what came before a window and judged on it. `all` is preferred unless another is better by more
    than one standard error (Breiman et al. 1984, 3.4.3): a choice from few noisy windows is itself noisy. known: what
    earlier calls on the same table measured; it is filled.
    """
    known = {} if known is None else known
    rows = len(past)
    cuts = [cut for cut in range(rows - FOLDS * window_rows, rows, window_rows) if cut >= window_rows]
    scores: dict[str, list[tuple[float, float]]] = {}
    for cut in cuts:
        if cut not in known:
            known[cut] = _fold(fit, past, label, task, primary, cut, window_rows, most_rows)
        for name, found in known[cut].items():
            scores.setdefault(name, []).append(found)
    full = {name: found for name, found in scores.items() if len(found) == len(cuts)}
    means = {name: float(np.mean([loss for loss, _ in found])) for name, found in full.items()}
    order = sorted(means, key=lambda name: means[name])
    if not order:
        return ["all"]
    error = float(np.sqrt(np.sum([error**2 for _, error in full["all"]]))) / len(cuts)
    if means["all"] - means[order[0]] <= error:
        order = ["all", *(name for name in order if name != "all")]
    return order


@dataclass(frozen=True)
class ChosenWindow:
    """The window of the past to train on, by name; `order` holds the other candidates after it."""

    order: tuple[str, ...]
    label: str
    window_rows: int
    most_rows: int

    @property
    def name(self) -> str:
        return self.order[0]

    def training(self, past: Any) -> tuple[Any, Any, Any]:
        """(features, labels, weights or None) of the rows of `past` to train on."""
        window = training_windows(len(past), self.window_rows)[self.name]
        return _training(past, self.label, window, self.most_rows)


def choose_window(
    past: Any,
    *,
    label: str,
    task: str,
    window_rows: int,
    fit: Fit,
    primary_metric: str = "",
    most_rows: int = 1_000_000,
) -> ChosenWindow:
    """The window of the past to train on: everything, weighted by age, or the newest; by time-ordered validation.

    past: a pandas frame of features and label in the order of time, without the rows that the result is evaluated
    on. fit: (features, labels, weights or None) -> a model with predict_proba or predict. See `rank`.
    """
    metric = primary_metric or metrics.PRIMARY[task]
    order = rank(fit, past.reset_index(drop=True), label, task, metric, window_rows, most_rows)
    return ChosenWindow(tuple(order), label, window_rows, most_rows)


def _fold(
    fit: Fit, past: Any, label: str, task: str, primary: str, cut: int, window_rows: int, most_rows: int
) -> dict[str, tuple[float, float]]:
    """(loss, standard error) of each candidate trained before the row `cut`, on the window that starts there."""
    before, held = past.iloc[:cut], past.iloc[cut : cut + window_rows]
    labels = held[label].to_numpy().astype(float)
    scores: dict[str, tuple[float, float]] = {}
    for name, window in training_windows(cut, window_rows).items():
        model = train(fit, before, label, window, most_rows)
        found = metrics.measure(task, labels, predictions(model, held.drop(columns=label), task))
        if primary in found.metrics:
            scores[name] = worse_by(primary, found.metrics[primary], 0.0), found.errors.get(primary, 0.0)
    return scores


def compare(
    challenger: Any,
    champion: Any,
    newest: Any,
    oldest: Any,
    label: str,
    task: str,
    primary: str,
    trained_on: str,
    max_regression: float = 0.005,
    beyond_noise: bool = True,
) -> Verdict:
    """Challenger and champion on the same newest labelled window, and on the oldest one for what it forgot.

    It passes when the primary metric is better beyond noise (1.96 standard errors of the paired difference of losses
    for means; half of the joint error otherwise) and no metric in GUARDED is worse by more than `max_regression`.
    Without `beyond_noise` any better primary metric will do: the model had much more to learn from.
    """
    labels = newest[label].to_numpy().astype(float)
    ours = metrics.measure(task, labels, predictions(challenger, newest.drop(columns=label), task))
    theirs = metrics.measure(task, labels, predictions(champion, newest.drop(columns=label), task))
    gain = worse_by(primary, theirs.metrics[primary], ours.metrics[primary])
    noise = float(np.hypot(ours.errors[primary], theirs.errors[primary])) / 2
    worse = {
        name: worse_by(name, ours.metrics[name], theirs.metrics[name])
        for name in GUARDED[task]
        if name != primary and name in ours.metrics and name in theirs.metrics
    }
    limit = max_regression if task != "regression" else max_regression * max(abs(theirs.metrics[primary]), 1e-9)
    broken = [f"{name} worse by {by:.4g}" for name, by in worse.items() if by > limit]
    passed = gain > (noise if beyond_noise else 0.0) and not broken
    why = f"{primary} {ours.metrics[primary]:.4g} against the champion's {theirs.metrics[primary]:.4g}"
    why += f"; {', '.join(broken)}" if broken else ("" if passed else f"; not better{' beyond noise' * beyond_noise}")
    return Verdict(
        trained_on,
        passed,
        why,
        ours.metrics,
        theirs.metrics,
        _forgotten(challenger, champion, oldest, label, task, primary),
    )


def _forgotten(challenger: Any, champion: Any, oldest: Any, label: str, task: str, primary: str) -> float:
    labels = oldest[label].to_numpy().astype(float)
    features = oldest.drop(columns=label)
    found = [metrics.measure(task, labels, predictions(m, features, task)).metrics for m in (challenger, champion)]
    if primary not in found[0] or primary not in found[1]:
        return 0.0
    return worse_by(primary, found[0][primary], found[1][primary])


def default_fit(task: str) -> Fit:
    """Histogram gradient boosting on the raw columns, categories as such. Raises MissingExtra."""
    try:
        from sklearn.compose import make_column_selector, make_column_transformer  # late: only `simulate` trains
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OrdinalEncoder
    except ImportError as error:
        raise MissingExtra("scikit-learn", "build", "A simulation") from error

    def fit(frame: Any, labels: Any, weights: Any) -> Any:
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
        columns = make_column_transformer(
            (encoder, make_column_selector(dtype_exclude="number")), remainder="passthrough"
        )
        kind = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
        model = make_pipeline(columns, kind(max_iter=80, learning_rate=0.1, max_leaf_nodes=15, random_state=0))
        step = model.steps[-1][0]
        return model.fit(frame, labels, **{f"{step}__sample_weight": weights})

    return fit
