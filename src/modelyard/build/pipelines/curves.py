"""What an evaluation's plots are drawn from, thinned so that it fits into the evidence; and the plots themselves."""

import io
from typing import Any

from modelyard.domain.errors import MissingExtra
from modelyard.kit import calibration, relevance

POINTS = 120
MOST_CLASSES = 20
EXTRA = "plots"


def of(task: str, truth: Any, prediction: Any, groups: Any = None) -> dict[str, Any]:
    """{name: {x, y, ...}} of the curves of a task. groups: the queries of a ranking, the series of forecasts."""
    import numpy as np  # late: importing modelyard must not load it

    if task == "binary":
        return _binary(truth, prediction)
    if task == "multiclass":
        names, codes = np.unique(np.concatenate([truth, prediction]), return_inverse=True)
        if len(names) > MOST_CLASSES:
            return {}
        counts = np.bincount(codes[: len(truth)] * len(names) + codes[len(truth) :], minlength=len(names) ** 2)
        shown = [str(name) for name in names.tolist()]
        return {"confusion": {"classes": shown, "counts": counts.reshape(len(names), -1).tolist()}}
    if task == "ranking":
        values = np.sort(relevance.by_query(truth, prediction, groups).get("ndcg_at_10", np.zeros(0)))
        chosen = _thinned(len(values)) if len(values) else []
        shares = _numbers((np.asarray(chosen) + 1) / max(len(values), 1))
        return {"queries": {"x": shares, "y": _numbers(values[chosen])}} if len(values) else {}
    if task == "forecasting" and len(np.unique(groups)) == 1:
        places = _thinned(len(truth))
        course = {"x": _numbers(places), "y": _numbers(truth[places]), "said": _numbers(prediction[places])}
        return {"forecast": course, **_residuals(truth, prediction)}
    if task in ("regression", "forecasting"):
        return _residuals(truth, prediction)
    return {}


def _residuals(truth: Any, prediction: Any) -> dict[str, Any]:
    chosen = _thinned(len(truth))
    return {"residuals": {"x": _numbers(prediction[chosen]), "y": _numbers((truth - prediction)[chosen])}}


def _binary(truth: Any, score: Any) -> dict[str, Any]:
    import numpy as np  # late: see above

    said, came, _ = calibration.reliability(truth, score)
    found: dict[str, Any] = {"calibration": {"x": _numbers(said), "y": _numbers(came)}}
    if not 0 < truth.sum() < len(truth):
        return found
    order = np.argsort(-score, kind="stable")
    hits, ordered = np.cumsum(truth[order]), score[order]
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    ends = ends[_thinned(len(ends))]
    recall = hits[ends] / hits[-1]
    fallout = (ends + 1 - hits[ends]) / (len(truth) - hits[-1])
    found["roc"] = {"x": [0.0, *_numbers(fallout)], "y": [0.0, *_numbers(recall)]}
    found["precision_recall"] = {"x": _numbers(recall), "y": _numbers(hits[ends] / (ends + 1))}
    return found


def _thinned(count: int) -> Any:
    """At most POINTS places, evenly spread, with the last."""
    import numpy as np  # late: see above

    return np.unique(np.linspace(0, count - 1, min(count, POINTS)).astype(int))


def _numbers(values: Any) -> list[float]:
    return [round(float(value), 6) for value in values]


def plots(curves: dict[str, Any]) -> dict[str, str]:
    """The curves as SVG text by name. Raises MissingExtra without matplotlib."""
    try:
        from matplotlib.figure import Figure  # late: an extra, and slow to load
    except ImportError as error:
        raise MissingExtra("matplotlib", EXTRA, "Drawing plots") from error
    return {name: _drawn(Figure(figsize=(5, 4), layout="tight"), name, held) for name, held in curves.items()}


LABELS = {
    "roc": ("false positive rate", "true positive rate"),
    "precision_recall": ("recall", "precision"),
    "calibration": ("said", "came"),
    "queries": ("share of the queries", "NDCG at 10"),
    "forecast": ("row", "actual, and predicted (dashed)"),
    "residuals": ("predicted", "actual - predicted"),
    "confusion": ("predicted", "actual"),
}


def _drawn(figure: Any, name: str, held: dict[str, Any]) -> str:
    axes = figure.subplots()
    if name == "confusion":
        axes.imshow(held["counts"], cmap="Blues")
        places = range(len(held["classes"]))
        axes.set_xticks(places, held["classes"], rotation=45, ha="right")
        axes.set_yticks(places, held["classes"])
        for row, column in ((row, column) for row in places for column in places):
            axes.text(column, row, held["counts"][row][column], ha="center", va="center")
    elif name == "residuals":
        axes.plot(held["x"], held["y"], "o", markersize=3)
        axes.axhline(0, color="grey", linewidth=1)
    else:
        axes.plot(held["x"], held["y"], marker="o" if name == "calibration" else None)
        if name in ("roc", "calibration"):
            axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
        if name == "forecast":
            axes.plot(held["x"], held["said"], linestyle="--")
    axes.set(title=name.replace("_", " "), xlabel=LABELS[name][0], ylabel=LABELS[name][1])
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
