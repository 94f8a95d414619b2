"""How good a model is on labelled rows, with how much uncertainty, and on whom it is worse."""

import hashlib
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from modelyard.build.pipelines import curves, tasks
from modelyard.build.pipelines.judging import Judge, judge_of, kept_scales, scales_of
from modelyard.domain.errors import Invalid
from modelyard.domain.metrics import PRIMARY, by_group
from modelyard.kit import calibration, scores
from modelyard.kit import fairness as families
from modelyard.kit.classes import class_text

MOST_LATENCY_CALLS = 60
LATENCY_TRIES = 2
LEAST_GROUP = 100
"""Rows that a group needs before its rate is compared: below it chance alone breaks any bound."""
MOST_GROUPS = 20
MOST_CLASSES = 20


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one model on one labelled window; `how` says what was measured, so that it can be repeated."""

    metrics: dict[str, float]
    standard_errors: dict[str, float]
    rows: int
    dataset: str
    slices: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    how: dict[str, Any] = field(default_factory=dict[str, Any])
    champion: dict[str, Any] | None = None
    curves: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the plots are drawn from: ROC, precision and recall, calibration, confusion, residuals."""
    bias: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Of protected columns and crossings, by class and group: rows, rates, and Clarify's measures (`bias_of`)."""

    def as_evidence(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(
    model: Any,
    frame: Any,
    *,
    label: str,
    task: str | None = None,
    features: Sequence[str] | None = None,
    protected: Sequence[str] = (),
    slices: Sequence[str] = (),
    query: str | None = None,
    series: str | None = None,
    history: Any = None,
    season: int = 1,
    quantiles: Mapping[float, Any] | None = None,
    horizon: str | None = None,
) -> Evaluation:
    """The evaluation of a model on a frame with its label column; `task` is told by the model where it is not given.

    protected: columns for fairness (`fairness`) and slices; slices: columns for slices alone. query: the column of
    the query in a ranking. history, season, series, quantiles: for forecasts, whose rows are in order of time;
    history: the rows before, by which mase is scaled; quantiles: by level the column that holds it; horizon: the
    column that says how far ahead a row looks, which makes slices and tells monitors. latency_p50_ms and
    latency_p99_ms are of single-row predictions here. Raises Invalid that names what is missing.
    """
    import numpy as np  # late: importing modelyard must not load it

    task = task or tasks.task_of(model)
    tasks.check(task)
    _needs(frame, [label, *protected, *slices, *filter(None, (query, series, horizon)), *(quantiles or {}).values()])
    left_out = [name for name in (label, query, series, *(quantiles or {}).values()) if name]
    columns = inputs_of(model, frame, label, features, [name for name in frame.columns if name not in left_out])
    truth = tasks.truth_of(task, model, frame[label])
    prediction = tasks.predicted(task, model, frame[columns])
    probabilities = _probabilities(task, model, frame[columns])
    scales = scales_of(history, label, series, season)
    judge = judge_of(task, frame, query, series, scales, quantiles)
    if probabilities is not None:
        found = scores.multiclass(truth, prediction, probabilities, model.classes_)
    else:
        found = judge.measure(truth, prediction)
    first = [name for name in (PRIMARY.get(task),) if name in found.metrics]
    metrics, errors = {name: found.metrics[name] for name in first} | found.metrics, dict(found.errors)
    if task == "binary":
        parts_of_error = calibration.shares_of_calibration_error(truth, prediction)
        metrics["expected_calibration_error"] = float(parts_of_error.mean())
        errors["expected_calibration_error"] = scores.mean_error(parts_of_error)
        if "average_precision" in metrics:
            positives = int(truth.sum())
            errors["average_precision"] = scores.average_precision_error(metrics["average_precision"], positives)
    by = list(dict.fromkeys([*protected, *slices, *filter(None, [horizon])]))
    parts = slices_of(judge, frame, truth, prediction, by)
    bias = bias_of(task, frame, truth, prediction, protected)
    metrics |= fairness(task, parts, protected) | worst_ratios(task, bias)
    times = _latencies(tasks.asked(task, model), frame[columns])
    metrics["latency_p50_ms"] = float(np.percentile(times, 50))
    metrics["latency_p99_ms"] = float(np.percentile(times, 99))
    errors["latency_p50_ms"] = median_error(times)
    how: dict[str, Any] = {"task": task, "label": label, "protected": list(protected), "features": columns}
    how |= {name: value for name, value in (("query", query), ("series", series), ("horizon", horizon)) if value}
    if scales:
        how["scales"] = kept_scales(scales)
    drawn = curves.of(task, truth, prediction, judge.groups)
    return Evaluation(metrics, errors, len(frame), frame_digest(frame), parts, how, curves=drawn, bias=bias)


def evaluate_binary(
    model: Any, frame: Any, *, label: str, protected: Sequence[str] = (), features: Sequence[str] | None = None
) -> Evaluation:
    """`evaluate` of a classifier of two classes: roc_auc, brier, log_loss, average_precision, accuracy (at 0.5)."""
    return evaluate(model, frame, label=label, task="binary", protected=protected, features=features)


def fairness(task: str, parts: Sequence[Mapping[str, Any]], protected: Sequence[str]) -> dict[str, float]:
    """For each protected column the lowest rate of a group divided by the highest, over groups of LEAST_GROUP rows.

    binary: of positive predictions (`demographic_parity_ratio/column`) and of positives that are found
    (`equal_opportunity_ratio/column`); multiclass: of right answers (`accuracy_ratio/column`); regression: of the
    mean absolute error (`mae_ratio/column`).
    """
    rates = {
        "binary": {"positive_rate": "demographic_parity_ratio", "true_positive_rate": "equal_opportunity_ratio"},
        "multiclass": {"accuracy": "accuracy_ratio"},
        "regression": {"mae": "mae_ratio"},
    }
    found: dict[str, float] = {}
    for column in protected:
        large = [part["metrics"] for part in parts if part["by"] == column and part["rows"] >= LEAST_GROUP]
        for rate, name in rates.get(task, {}).items():
            values = [metrics[rate] for metrics in large if rate in metrics]
            if len(values) > 1 and max(values) > 0:
                found[by_group(name, column)] = min(values) / max(values)
    return found


def bias_of(task: str, frame: Any, truth: Any, prediction: Any, protected: Sequence[str]) -> list[dict[str, Any]]:
    """[{by, of, value, rows, positive_rate, recall, measures}]: each group of LEAST_GROUP rows against all other
    rows.

    by: a protected column, or the crossing of two (`sex x race`); of: the class against the rest, empty of two
    classes. measures: those of the labels (before training) and of the predictions (after it), see `kit/fairness`. Of
    the MOST_CLASSES most frequent classes; nothing of other tasks.
    """
    import numpy as np  # late: see above

    if task not in ("binary", "multiclass"):
        return []
    sides: dict[str, tuple[Any, Any]] = {"": (truth == 1, prediction >= 0.5)} if task == "binary" else {}
    if task == "multiclass":
        names, counts = np.unique(truth, return_counts=True)
        for name in names[np.argsort(-counts, kind="stable")[:MOST_CLASSES]]:
            sides[class_text(name)] = (truth == name, prediction == name)
    found: list[dict[str, Any]] = []
    for by, values in crossings(frame, protected).items():
        groups, counts = np.unique(values, return_counts=True)
        for group in groups[counts >= LEAST_GROUP][:MOST_GROUPS]:
            inside = values == group
            if inside.all():
                continue
            labels = families.of_labels(truth, inside)
            for of, (true, said) in sides.items():
                measures = {**labels, **families.of_class(true, inside, said)}
                held: dict[str, Any] = {
                    "by": by,
                    "of": of,
                    "value": str(group),
                    "rows": int(inside.sum()),
                    "measures": measures,
                }
                held["positive_rate"] = float(said[inside].mean())
                if true[inside].sum() >= families.LEAST_OF_A_RATE:
                    held["recall"] = float(said[inside & true].mean())
                found.append(held)
    return found


def crossings(frame: Any, protected: Sequence[str]) -> dict[str, Any]:
    """The group of each row, by protected column and by crossing of two."""
    single = {name: _groups(frame[name]) for name in protected}
    pairs = {f"{a} x {b}": single[a] + " x " + single[b] for a, b in itertools.combinations(protected, 2)}
    return {**single, **pairs}


def worst_ratios(task: str, bias: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Metrics for gates, by column and crossing: the lowest group's rate divided by the highest's, of the worst
    class.

    `demographic_parity_ratio/by` of being given the class, `equal_opportunity_ratio/by` of being found when one is of
    it. Those of single columns of two classes are `fairness`'s.
    """
    found: dict[str, float] = {}
    for by in dict.fromkeys(item["by"] for item in bias):
        if task == "binary" and " x " not in by:
            continue
        for rate, name in (("positive_rate", "demographic_parity_ratio"), ("recall", "equal_opportunity_ratio")):
            ratios: list[float] = []
            for of in dict.fromkeys(item["of"] for item in bias if item["by"] == by):
                values = [item[rate] for item in bias if item["by"] == by and item["of"] == of and rate in item]
                if len(values) > 1 and max(values) > 0:
                    ratios.append(min(values) / max(values))
            if ratios:
                found[by_group(name, by)] = min(ratios)
    return found


def slices_of(judge: Judge, frame: Any, truth: Any, prediction: Any, by: Sequence[str]) -> list[dict[str, Any]]:
    """The metrics of each group of each column, the largest group first; numbers of many values go by quartile."""
    import numpy as np  # late: see above

    found: list[dict[str, Any]] = []
    for column in by:
        values = _groups(frame[column])
        groups: list[dict[str, Any]] = []
        for value in np.unique(values):
            chosen = values == value
            metrics = judge.measure(truth, prediction, chosen).metrics
            if judge.task == "binary" and truth[chosen].any():
                metrics["true_positive_rate"] = float((prediction[chosen][truth[chosen] == 1] >= 0.5).mean())
            groups.append({"by": column, "value": str(value), "rows": int(chosen.sum()), "metrics": metrics})
        found += sorted(groups, key=lambda group: -group["rows"])
    return found


def _groups(values: Any) -> Any:
    """The group of each row, as text."""
    import pandas as pd  # late: see above

    if pd.api.types.is_float_dtype(values) and values.nunique() > MOST_GROUPS:
        values = pd.qcut(values, 4, duplicates="drop")
    return values.astype("object").where(values.notna(), "missing").astype(str).to_numpy(dtype=object)


def _probabilities(task: str, model: Any, features: Any) -> Any:
    return model.predict_proba(features) if task == "multiclass" and hasattr(model, "predict_proba") else None


def _needs(frame: Any, columns: Sequence[str]) -> None:
    """Raises Invalid for a frame without rows, or that lacks one of the columns."""
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        known = ", ".join(map(str, list(frame.columns)[:30]))
        raise Invalid(f"The evaluated rows have no column {missing[0]!r}.", remedy=f"Columns: {known}.")
    if not len(frame):
        raise Invalid("There are no rows to evaluate on.", remedy="Hold some out: steps.split(rows, test=0.25)")


def compare_on_same_rows(challenger: Any, champion: Any, frame: Any, how: Mapping[str, Any]) -> dict[str, Any]:
    """The champion's metrics on the challenger's evaluation rows, and the difference challenger - champion with its
    interval (`Judge.differences`).
    """
    task = how.get("task", "binary")
    scales = {name: scale for name, scale in how.get("scales", [])} or None
    judge = judge_of(task, frame, how.get("query"), how.get("series"), scales)
    truth = tasks.truth_of(task, challenger, frame[how["label"]])
    theirs = inputs_of(champion, frame, how["label"], None, how["features"])
    first = tasks.predicted(task, challenger, frame[how["features"]])
    second = tasks.predicted(task, champion, frame[theirs])
    ours, held = judge.measure(truth, first), judge.measure(truth, second)
    difference = judge.differences(truth, first, second)
    for name, found in difference.items():
        found["value"] = ours.metrics[name] - held.metrics[name] if name in ours.metrics else found["value"]
    return {"metrics": held.metrics, "standard_errors": held.errors, "difference": difference}


def inputs_of(
    model: Any, frame: Any, label: str, features: Sequence[str] | None, otherwise: Sequence[str] | None = None
) -> list[str]:
    """The columns that a model takes: those given, else those it was fitted on, else all but the label.

    Raises Invalid when the frame lacks one.
    """
    known = getattr(model, "feature_names_in_", None)
    if features is None and known is not None:
        features = [str(name) for name in known]
    columns = [name for name in (features or otherwise or frame.columns) if name != label]
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise Invalid(
            f"The model takes the column {missing[0]!r}, which the evaluated rows lack.",
            remedy="Evaluate on rows with every column that the model, and the champion, were trained on.",
        )
    return columns


def _latencies(asked: Callable[[Any], Any], features: Any) -> list[float]:
    """Milliseconds of single-row predictions, the first (warming) one left out.

    Each row is asked LATENCY_TRIES times and the fastest counts: what the model needs, not what else the machine did.
    """
    taken: list[float] = []
    for row in range(min(MOST_LATENCY_CALLS, len(features))):
        one = features.iloc[row : row + 1]
        fastest = math.inf
        for _ in range(LATENCY_TRIES):
            started = time.perf_counter()
            asked(one)
            fastest = min(fastest, time.perf_counter() - started)
        taken.append(fastest * 1000)
    return taken[1:] or taken


def median_error(values: Sequence[float]) -> float:
    """Standard error of a median: the spread of the medians of DRAWS samples drawn from these values."""
    import numpy as np  # late: see above

    drawn = np.random.default_rng(scores.SEED).choice(np.asarray(values), (scores.DRAWS, len(values)))
    return float(np.median(drawn, axis=1).std())


def frame_digest(frame: Any) -> str:
    """SHA-256 of a frame's columns, types and values, independent of how it is stored."""
    import pandas as pd  # late: see above

    digest = hashlib.sha256()
    digest.update(repr([(str(name), str(kind)) for name, kind in frame.dtypes.items()]).encode())
    digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return digest.hexdigest()
