"""Which columns drifted: thresholds learnt from the reference's own windows, or an effect that is significant too."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from modelyard.deliver.monitoring import statistics
from modelyard.deliver.monitoring.reference import Reference, Thresholds, prepare_with_windows, sketch_table
from modelyard.deliver.monitoring.sketches import CategoryLayout, NumericLayout, Sketch
from modelyard.deliver.monitoring.statistics import Distances, EmptyWindow
from modelyard.deliver.monitoring.tables import open_table

EFFECT_UNCALIBRATED = 0.05
SIGNIFICANCE = 0.01
"""Without learnt thresholds: the chance that any column of an unchanged window passes both tests, at most."""
SIGNIFICANCE_CALIBRATED = 0.05
"""With learnt thresholds an effect must be significant too: of many columns one exceeds its own by chance."""
LEAST_ROWS = 30


@dataclass(frozen=True)
class ColumnDrift:
    """One column's verdict. `false_alarm_rate` is what to expect of this threshold on unchanged windows, at most."""

    name: str
    kind: str
    test: str
    effect: float
    threshold: float
    psi: float
    js: float
    ks: float | None
    p_value: float
    drifted: bool
    calibrated: bool
    false_alarm_rate: float
    importance: float | None
    before: float | None
    after: float | None
    missing_before: float
    missing_after: float
    moved: str

    @property
    def ratio(self) -> float:
        return self.effect / self.threshold


def compare(reference: Reference, current: Sketch, thresholds: Thresholds | None = None) -> list[ColumnDrift]:
    """Every column's drift, the largest effect relative to its threshold first.

    thresholds hold for windows of their own length only: they are used for a window of at least half and at most
    twice as many rows, scaled by the square root of the ratio when it is shorter; any other window is judged as
    uncalibrated.
    """
    names = list(reference.layout.columns)
    scale = _scale(thresholds, current.rows)
    found: list[ColumnDrift] = []
    for name in names:
        if current.known(name) < LEAST_ROWS:
            continue
        try:
            distances = statistics.compare(reference.sketch, current, name)
        except EmptyWindow:
            continue
        if thresholds is not None and scale is not None:
            limit = max(thresholds.by_column[name] * scale, EFFECT_UNCALIBRATED)
            rate, p_value = thresholds.column_rate, _p_value(reference.sketch, current, name, distances)
            drifted = distances.effect > limit and p_value < SIGNIFICANCE_CALIBRATED / len(names)
        else:
            limit, rate = EFFECT_UNCALIBRATED, SIGNIFICANCE / len(names)
            p_value = _p_value(reference.sketch, current, name, distances)
            drifted = distances.effect >= limit and p_value < rate
        found.append(_verdict(reference, current, name, distances, limit, rate, drifted, scale is not None, p_value))
    return sorted(found, key=lambda column: -column.ratio)


def compare_together(reference: Reference, parts: list[Sketch], thresholds: Thresholds) -> list[ColumnDrift]:
    """Several windows' drift taken as one; a column that a single one of them makes drift is not called drifted."""
    whole = Sketch(reference.layout)
    for part in parts:
        whole.merge(part)
    columns = compare(reference, whole, thresholds)
    lasting = {column.name for column in columns if column.drifted}
    for part in parts if lasting else []:
        rest = compare(reference, whole.minus(part), thresholds)
        lasting &= {column.name for column in rest if column.drifted}
    return [replace(column, drifted=column.name in lasting) for column in columns]


def _scale(thresholds: Thresholds | None, rows: int) -> float | None:
    """The factor for a window of another length than thresholds were learnt for; None for one too different."""
    if thresholds is None or not thresholds.window_rows / 2 <= rows <= thresholds.window_rows * 2:
        return None
    return max(1.0, math.sqrt(thresholds.window_rows / rows))


def _p_value(reference: Sketch, current: Sketch, name: str, distances: Distances) -> float:
    """The smaller p-value of the distribution's test and of Welch's test of the means, doubled for having two."""
    if isinstance(reference.layout.columns[name], CategoryLayout):
        return distances.p_value
    before, after = reference.mean(name), current.mean(name)
    if before is None or after is None:
        return distances.p_value
    error = math.hypot(
        reference.deviation(name) / math.sqrt(reference.known(name)),
        current.deviation(name) / math.sqrt(current.known(name)),
    )
    if error == 0:
        return distances.p_value
    means = math.erfc(abs(after - before) / error / math.sqrt(2))
    return min(1.0, 2 * min(distances.p_value, means))


def _verdict(
    reference: Reference,
    current: Sketch,
    name: str,
    distances: Distances,
    limit: float,
    rate: float,
    drifted: bool,
    calibrated: bool,
    p_value: float,
) -> ColumnDrift:
    numeric = isinstance(reference.layout.columns[name], NumericLayout)
    before, after = reference.sketch.mean(name), current.mean(name)
    return ColumnDrift(
        name=name,
        kind=reference.kinds.get(name, "numeric"),
        test="W1/sd" if numeric else "Jensen-Shannon",
        effect=distances.effect,
        threshold=limit,
        psi=distances.psi,
        js=distances.js,
        ks=distances.ks,
        p_value=p_value,
        drifted=bool(drifted),
        calibrated=calibrated,
        false_alarm_rate=rate,
        importance=reference.importance.get(name),
        before=before,
        after=after,
        missing_before=_missing(reference.sketch, name),
        missing_after=_missing(current, name),
        moved=f"mean {before:.4g} to {after:.4g}"
        if before is not None and after is not None
        else _moved(reference.sketch, current, name),
    )


def _missing(sketch: Sketch, name: str) -> float:
    measures = sketch.measured(name)
    return float(measures[1] / measures[0]) if measures[0] else 0.0


def _moved(reference: Sketch, current: Sketch, name: str) -> str:
    """The category whose share changed most, in words."""
    column = reference.layout.columns[name]
    assert isinstance(column, CategoryLayout), "numeric columns have means"
    before = reference.counted(name) / reference.known(name)
    after = current.counted(name) / current.known(name)
    most = int(abs(after - before).argmax())
    label = column.names[most] if most < len(column.names) else "other values"
    return f"{label}: {before[most]:.1%} to {after[most]:.1%}"


def weighted_share(columns: list[ColumnDrift]) -> float:
    """The share of the model's attention that drifted: drifted columns weighted by importance, equally without it."""
    weights = [1.0 if column.importance is None else column.importance for column in columns]
    total = sum(weights)
    drifted = sum(weight for weight, column in zip(weights, columns, strict=True) if column.drifted)
    return drifted / total if total else 0.0


def compare_table(reference: Mapping[str, Any], current: Mapping[str, Any], window_rows: int) -> list[ColumnDrift]:
    """Every column's drift between two tables in memory; the reference's rows are in the order of time."""
    prepared = prepare_with_windows(open_table(reference), window_rows)
    return compare(prepared, sketch_table(prepared, open_table(current)), prepared.thresholds)


def as_rows(columns: list[ColumnDrift]) -> list[dict[str, Any]]:
    return [asdict(column) for column in columns]
