"""How good a model is on labelled rows, with how much uncertainty, and on whom it is worse."""

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from modelyard.domain.errors import Invalid
from modelyard.domain.metrics import by_group
from modelyard.kit.ranking import auc_standard_error, roc_auc

MOST_LATENCY_CALLS = 60
LATENCY_TRIES = 2
LEAST_GROUP = 100
"""Rows that a group needs before its rate is compared: below it chance alone breaks any bound."""
RESAMPLES = 200
SEED = 20_130_101


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

    def as_evidence(self) -> dict[str, Any]:
        return asdict(self)


def evaluate_binary(
    model: Any, frame: Any, *, label: str, protected: Sequence[str] = (), features: Sequence[str] | None = None
) -> Evaluation:
    """The evaluation of a classifier of two classes on a frame with its label column (0 or 1).

    roc_auc, brier, log_loss, average_precision, accuracy (at 0.5) with standard errors for roc_auc (Hanley and
    McNeil 1982), brier and accuracy (of a mean); for each protected column its slices, and
    `demographic_parity_ratio/column`: the lowest rate of positive predictions in a group divided by the highest,
    over groups of at least LEAST_GROUP rows; latency_p50_ms and latency_p99_ms of single-row predictions here.
    """
    import numpy as np  # late: importing modelyard must not load it

    columns = inputs_of(model, frame, label, features)
    truth = frame[label].to_numpy().astype(int)
    score = scores(model, frame[columns])
    metrics, errors = binary_metrics(truth, score)
    slices: list[dict[str, Any]] = []
    for column in protected:
        groups = _groups(frame[column].astype(str).to_numpy(), truth, score)
        slices += [{"by": column, **group} for group in groups]
        rates = [group["metrics"]["positive_rate"] for group in groups if group["rows"] >= LEAST_GROUP]
        if len(rates) > 1 and max(rates) > 0:
            metrics[by_group("demographic_parity_ratio", column)] = min(rates) / max(rates)
    times = _latencies(model, frame[columns])
    metrics["latency_p50_ms"] = float(np.percentile(times, 50))
    metrics["latency_p99_ms"] = float(np.percentile(times, 99))
    how = {"task": "binary", "label": label, "protected": list(protected), "features": columns}
    return Evaluation(metrics, errors, len(frame), frame_digest(frame), slices, how)


def compare_on_same_rows(challenger: Any, champion: Any, frame: Any, how: dict[str, Any]) -> dict[str, Any]:
    """The champion's metrics on the challenger's evaluation rows, and the difference challenger - champion.

    The interval of the difference is a paired percentile bootstrap of RESAMPLES resamples with a fixed seed
    (Efron and Tibshirani 1993, ch. 13).
    """
    import numpy as np  # late: see above

    truth = frame[how["label"]].to_numpy().astype(int)
    theirs = inputs_of(champion, frame, how["label"], None, how["features"])
    first, second = scores(challenger, frame[how["features"]]), scores(champion, frame[theirs])
    metrics, errors = binary_metrics(truth, second)
    random = np.random.default_rng(SEED)
    names = ("roc_auc", "brier") if 0 < truth.sum() < len(truth) else ("brier",)
    draws: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(RESAMPLES):
        rows = random.integers(0, len(truth), len(truth))
        squares = (first[rows] - truth[rows]) ** 2 - (second[rows] - truth[rows]) ** 2
        draws["brier"].append(float(squares.mean()))
        if "roc_auc" in names and 0 < truth[rows].sum() < len(rows):
            draws["roc_auc"].append(roc_auc(truth[rows], first[rows]) - roc_auc(truth[rows], second[rows]))
    ours, _ = binary_metrics(truth, first)
    difference = {
        name: {
            "value": ours[name] - metrics[name],
            "low": float(np.percentile(draws[name], 2.5)),
            "high": float(np.percentile(draws[name], 97.5)),
        }
        for name in names
    }
    return {"metrics": metrics, "standard_errors": errors, "difference": difference}


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


def scores(model: Any, features: Any) -> Any:
    """The probability of the positive class, shape (rows,)."""
    return model.predict_proba(features)[:, 1]


def binary_metrics(truth: Any, score: Any) -> tuple[dict[str, float], dict[str, float]]:
    """(metrics, standard errors) of probabilities against 0/1 labels."""
    import numpy as np  # late: see above

    rows = len(truth)
    squares = (score - truth) ** 2
    clipped = np.clip(score, 1e-15, 1 - 1e-15)
    right = (score >= 0.5) == (truth == 1)
    metrics = {
        "brier": float(squares.mean()),
        "log_loss": float(-(truth * np.log(clipped) + (1 - truth) * np.log(1 - clipped)).mean()),
        "accuracy": float(right.mean()),
        "base_rate": float(truth.mean()),
        "positive_rate": float((score >= 0.5).mean()),
    }
    errors = {
        "brier": float(squares.std() / np.sqrt(rows)),
        "accuracy": float(right.std() / np.sqrt(rows)),
    }
    positives = int(truth.sum())
    if 0 < positives < rows:
        auc = roc_auc(truth, score)
        metrics["roc_auc"] = auc
        metrics["average_precision"] = _average_precision(truth, score)
        errors["roc_auc"] = auc_standard_error(auc, positives, rows - positives)
    return metrics, errors


def _average_precision(truth: Any, score: Any) -> float:
    import numpy as np  # late: see above

    order = np.argsort(-score, kind="stable")
    hits, ordered = np.cumsum(truth[order]), score[order]
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # equal scores are one threshold
    gained = np.diff(hits[ends], prepend=0)
    return float((gained * hits[ends] / (ends + 1)).sum() / hits[-1])


def _groups(values: Any, truth: Any, score: Any) -> list[dict[str, Any]]:
    import numpy as np  # late: see above

    found: list[dict[str, Any]] = []
    for value in np.unique(values):
        chosen = values == value
        metrics, _ = binary_metrics(truth[chosen], score[chosen])
        found.append({"value": str(value), "rows": int(chosen.sum()), "metrics": metrics})
    return sorted(found, key=lambda group: -group["rows"])


def _latencies(model: Any, features: Any) -> list[float]:
    """Milliseconds of single-row predictions, the first (warming) one left out.

    Each row is asked LATENCY_TRIES times and the fastest counts: what the model needs, not what else the machine did.
    """
    taken: list[float] = []
    for row in range(min(MOST_LATENCY_CALLS, len(features))):
        one = features.iloc[row : row + 1]
        fastest = math.inf
        for _ in range(LATENCY_TRIES):
            started = time.perf_counter()
            model.predict_proba(one)
            fastest = min(fastest, time.perf_counter() - started)
        taken.append(fastest * 1000)
    return taken[1:] or taken


def frame_digest(frame: Any) -> str:
    """SHA-256 of a frame's columns, types and values, independent of how it is stored."""
    import pandas as pd  # late: see above

    digest = hashlib.sha256()
    digest.update(repr([(str(name), str(kind)) for name, kind in frame.dtypes.items()]).encode())
    digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return digest.hexdigest()
