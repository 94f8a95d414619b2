"""Predictions with their labels, as a task compares them: classes by name, numbers, items of queries, courses in
time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelyard.deliver.monitoring import metrics
from modelyard.deliver.monitoring.metrics import Measured
from modelyard.deliver.monitoring.sketches import Floats
from modelyard.kit import forecasts, relevance, scores
from modelyard.kit.classes import class_text

LABEL, PREDICTION, PROBABILITIES, GROUP = "label", "prediction", "probabilities", "group"
INPUT = "input."
MOST_PARTS = 24
LEAST_OF_A_PART = 20


@dataclass(frozen=True)
class Labelled:
    """labels, predictions: shape (rows,), text for classes, else floats. probabilities: shape (rows, classes).

    groups: the queries of a ranking or the series of forecasts, as text; horizons: how far ahead a forecast looks;
    scales: by series what mase divides by. left_out: labels that cannot be compared, one of them as an example.
    """

    task: str
    labels: Any
    predictions: Any
    probabilities: Any = None
    classes: tuple[str, ...] = ()
    groups: Any = None
    horizons: Any = None
    scales: Mapping[str, float] | None = None
    left_out: int = 0
    example: str = ""
    table: Any = field(default=None, repr=False, compare=False)

    @property
    def rows(self) -> int:
        return len(self.labels)

    def measure(self, chosen: Any = slice(None)) -> Measured:
        """The metrics of the chosen rows, each with its standard error."""
        labels, predictions = self.labels[chosen], self.predictions[chosen]
        if self.task == "ranking":
            return relevance.ranking(labels, predictions, self.groups[chosen])
        if self.task == "forecasting":
            return forecasts.forecast(labels, predictions, self.groups[chosen], self.scales)
        if self.task == "multiclass" and self.probabilities is not None:
            return scores.multiclass(labels, predictions, self.probabilities[chosen], self.classes)
        return metrics.measure(self.task, labels, predictions)

    def losses(self) -> Floats | None:
        """One loss a row; None of a ranking, which is judged by query."""
        if self.task == "ranking":
            return None
        return metrics.losses(self.task, self.labels, self.predictions)

    def parts(self) -> list[dict[str, Any]]:
        """Metrics with intervals by class, horizon and series: [{by, value, rows, metrics: {name: {value, low,
        high}}}].
        """
        if self.task == "multiclass":
            return self._by_class()
        found: list[dict[str, Any]] = []
        columns = {"horizon": self.horizons, "series": self.groups if self.task == "forecasting" else None}
        for by, values in columns.items():
            if values is None:
                continue
            names, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
            large = [at for at in range(len(names)) if counts[at] >= LEAST_OF_A_PART]
            for at in large[:MOST_PARTS] if len(names) > 1 else []:
                measured = self.measure(codes == at)
                shown = {name: value for name, value in measured.metrics.items() if name != "bias"}
                intervals = {name: scores.interval(shown[name], measured.errors.get(name, 0.0)) for name in shown}
                found.append(
                    {"by": by, "value": class_text(names[at]), "rows": int(counts[at]), "metrics": intervals}
                )
        return found

    def _by_class(self) -> list[dict[str, Any]]:
        """Recall and precision of each class, the most frequent first, with Wilson intervals."""
        names, counts = np.unique(self.labels, return_counts=True)
        found: list[dict[str, Any]] = []
        for at in np.argsort(-counts, kind="stable")[:MOST_PARTS].tolist():
            true, said = self.labels == names[at], self.predictions == names[at]
            hits = int((true & said).sum())
            shares = {"recall": scores.share_interval(hits, int(true.sum()))}
            if said.any():
                shares["precision"] = scores.share_interval(hits, int(said.sum()))
            found.append({"by": "class", "value": str(names[at]), "rows": int(counts[at]), "metrics": shares})
        return found


def of(window: Any, task: str, how: Mapping[str, Any], classes: tuple[str, ...] = ()) -> Labelled:
    """The labelled rows of an Arrow table with `prediction` and `label`; what cannot be compared is left out.

    how: what the evaluation says of itself: the columns `query`, `series` and `horizon`, and `scales` of the series.
    """
    compare = {"multiclass": _texts, "binary": _sides(classes)}.get(task, _numbers)
    labels, said = (
        compare(window.column(LABEL)),
        (_texts if task == "multiclass" else _numbers)(window.column(PREDICTION)),
    )
    kept = _known(labels) & _known(said)
    given = window.column(LABEL).to_pylist()
    unfit = [str(value) for value, fits in zip(given, _known(labels), strict=True) if not fits and value is not None]
    table = window.filter(kept)
    probabilities = None
    if task == "multiclass" and PROBABILITIES in table.column_names and table.column(PROBABILITIES).null_count == 0:
        probabilities = np.array(table.column(PROBABILITIES).to_pylist(), dtype=float)
    groups = _groups(table, task, how)
    return Labelled(
        task,
        labels[kept],
        said[kept],
        probabilities,
        classes,
        groups,
        _horizons(table, how, groups) if task == "forecasting" else None,
        {class_text(name): scale for name, scale in how.get("scales", [])} or None,
        len(unfit),
        unfit[0] if unfit else "",
        table,
    )


def _known(values: Any) -> Any:
    return values != "" if values.dtype.kind == "U" else ~np.isnan(values)


def _texts(column: Any) -> Any:
    """Classes as text, empty where missing."""
    return np.array(["" if value is None else class_text(value) for value in column.to_pylist()], dtype=str)


def _numbers(column: Any) -> Floats:
    """Numbers, NaN where missing and where text is none."""
    return np.array([_number(value) for value in column.to_pylist()], dtype=float)


def _number(value: Any) -> float:
    try:
        return float("nan") if value is None else float(value)
    except ValueError:
        return float("nan")


def _sides(classes: tuple[str, ...]) -> Any:
    """Reads labels of two classes: 1 for the model's second class, 0 for its first; else 0 or 1 as they are."""
    places = {name: float(place) for place, name in enumerate(classes)} if len(classes) == 2 else {}

    def side(value: Any) -> float:
        if value is None:
            return float("nan")
        found = places.get(class_text(value), _number(value))
        return found if found in (0.0, 1.0) else float("nan")

    return lambda column: np.array([side(value) for value in column.to_pylist()], dtype=float)


def _groups(table: Any, task: str, how: Mapping[str, Any]) -> Any:
    """The query or series of each row as text: as sent, else an input, else the request (or one series)."""
    if task not in ("ranking", "forecasting"):
        return None
    name = how.get("query" if task == "ranking" else "series")
    own = _column(table, name) if name else None
    if own is None:
        own = _requests(table) if task == "ranking" else ["0"] * table.num_rows
    if GROUP in table.column_names:
        sent = table.column(GROUP).to_pylist()
        own = [group if group is not None else other for group, other in zip(sent, own, strict=True)]
    return np.array([class_text(value) for value in own], dtype=str)


def _horizons(table: Any, how: Mapping[str, Any], groups: Any) -> Any:
    """How far ahead each forecast looks: an input, or its place among the rows of its series in one request."""
    name = how.get("horizon")
    own = _column(table, name) if name else None
    if own is not None:
        return np.array([_number(value) for value in own])
    if "prediction_id" not in table.column_names:
        return None
    seen: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for at, identity in enumerate(table.column("prediction_id").to_pylist()):
        request, _, row = identity.rpartition(":")
        seen.setdefault((request, groups[at]), []).append((int(row) if row.isdigit() else 0, at))
    found = np.ones(table.num_rows)
    for rows in seen.values():
        for row, at in rows:
            found[at] = 1 + sum(other < row for other, _ in rows)
    return found


def _column(table: Any, name: str) -> list[Any] | None:
    held = next((column for column in (f"{INPUT}{name}", name) if column in table.column_names), None)
    return table.column(held).to_pylist() if held is not None else None


def _requests(table: Any) -> list[str]:
    if "prediction_id" not in table.column_names:
        return ["0"] * table.num_rows
    return [identity.rpartition(":")[0] for identity in table.column("prediction_id").to_pylist()]
