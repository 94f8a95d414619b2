"""Which columns drifted: thresholds learnt from the reference's own windows, or an effect that is significant too."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from modelyard.deliver.monitoring import statistics
from modelyard.deliver.monitoring.reference import Reference, prepare_with_windows, sketch_table
from modelyard.deliver.monitoring.sketches import CategoryLayout, NumericLayout, Sketch
from modelyard.deliver.monitoring.statistics import Distances, EmptyWindow
from modelyard.deliver.monitoring.tables import open_table
from modelyard.deliver.monitoring.thresholds import (
    FLOORS,
    SIGNIFICANCE_CALIBRATED,
    Signs,
    Thresholds,
    expected_unseen,
    log_spread,
    merged,
    signs,
)

EFFECT_UNCALIBRATED = 0.05
SIGNIFICANCE = 0.01
"""Without learnt thresholds: the chance that any column of an unchanged window passes both tests, at most."""
LEAST_ROWS = 30
UNSEEN_UNCALIBRATED = 3.0
"""Without learnt thresholds: new values may be this many times as frequent as the reference lets expect."""
TESTS = {"spread": "spread", "unseen": "unseen values"}


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


@dataclass(frozen=True)
class Judgement:
    """Columns as compared, over how many windows, their sketch, and the thresholds that decided."""

    columns: list[ColumnDrift]
    windows: int
    sketch: Sketch
    thresholds: Thresholds | None


def judge(
    reference: Reference, windows: Sequence[Sketch], alone: Thresholds | None, runs: Mapping[int, Thresholds]
) -> Judgement:
    """The newest window alone; where it shows nothing, together with those before it, in the lengths of `runs`.

    windows: in the order of time, the newest last. runs: by length, learnt as `alone` was.
    """
    found = Judgement(compare(reference, windows[-1], alone), 1, windows[-1], alone)
    if alone is None or any(column.drifted for column in found.columns):
        return found
    for length, learnt in runs.items():
        if len(windows) >= length:
            columns = compare_together(reference, windows[-length:], learnt)
            if any(column.drifted for column in columns):
                return Judgement(columns, length, merged(windows[-length:]), learnt)
    return found


def compare(reference: Reference, current: Sketch, thresholds: Thresholds | None = None) -> list[ColumnDrift]:
    """Every column's drift, the largest sign relative to its limit first.

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
        p_value = statistics.p_value(reference.sketch, current, name, distances)
        usual = thresholds.spreads[name] if thresholds is not None and scale is not None else math.nan
        seen = signs(reference.sketch, current, name, distances.effect, usual)
        if thresholds is not None and scale is not None:
            limits = Signs(*(limit * scale for limit in thresholds.by_column[name]))
            rate, significant = thresholds.column_rate, p_value < SIGNIFICANCE_CALIBRATED / len(names)
        else:
            rate = SIGNIFICANCE / len(names)
            limits, significant = _uncalibrated(reference.sketch, name), p_value < rate
        sign = _sign(seen, limits, significant)
        found.append(
            _verdict(reference, current, name, distances, seen, limits, sign, rate, scale is not None, p_value)
        )
    return sorted(found, key=lambda column: -column.ratio)


def _uncalibrated(reference: Sketch, name: str) -> Signs:
    """Limits without windows to learn from; spreads of dependent rows vary too much to be judged then."""
    expected = UNSEEN_UNCALIBRATED * expected_unseen(reference, name)
    return Signs(EFFECT_UNCALIBRATED, math.inf, max(FLOORS.unseen, expected))


def _sign(seen: Signs, limits: Signs, significant: bool) -> str | None:
    """The sign that is most beyond its limit; None when none is. An effect has to be significant too."""
    ratios = {
        name: value / limit
        for name, value, limit in zip(Signs._fields, seen, limits, strict=True)
        if value > limit and (significant or name != "effect")
    }
    return max(ratios, key=lambda name: ratios[name]) if ratios else None


def compare_together(reference: Reference, parts: Sequence[Sketch], thresholds: Thresholds) -> list[ColumnDrift]:
    """Several windows' drift taken as one; a column that a single one of them makes drift is not called drifted."""
    whole = merged(parts)
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


def _verdict(
    reference: Reference,
    current: Sketch,
    name: str,
    distances: Distances,
    seen: Signs,
    limits: Signs,
    sign: str | None,
    rate: float,
    calibrated: bool,
    p_value: float,
) -> ColumnDrift:
    numeric = isinstance(reference.layout.columns[name], NumericLayout)
    shown = sign or "effect"
    return ColumnDrift(
        name=name,
        kind=reference.kinds.get(name, "numeric"),
        test=TESTS.get(shown, "W1/sd" if numeric else "Jensen-Shannon"),
        effect=getattr(seen, shown),
        threshold=getattr(limits, shown),
        psi=distances.psi,
        js=distances.js,
        ks=distances.ks,
        p_value=p_value,
        drifted=sign is not None,
        calibrated=calibrated,
        false_alarm_rate=rate,
        importance=reference.importance.get(name),
        before=reference.sketch.mean(name),
        after=current.mean(name),
        missing_before=_missing(reference.sketch, name),
        missing_after=_missing(current, name),
        moved=_moved(reference.sketch, current, name, shown, seen),
    )


def deciding(column: ColumnDrift) -> str:
    """What decided that a column drifted: the sign in words, or the distance beside its limit."""
    if column.test in TESTS.values():
        return column.moved
    return f"{column.test} {column.effect:.2f} > {column.threshold:.2f}"


def _missing(sketch: Sketch, name: str) -> float:
    measures = sketch.measured(name)
    return float(measures[1] / measures[0]) if measures[0] else 0.0


def _moved(reference: Sketch, current: Sketch, name: str, sign: str, seen: Signs) -> str:
    """What changed, in words: the mean, the spread, values that never came, or the category that changed most."""
    column = reference.layout.columns[name]
    if sign == "unseen":
        return f"{seen.unseen:.0%} of the rows hold values that never came before"
    if sign == "spread":
        return f"the range of the middle 80% is {math.exp(log_spread(current, name)):.4g}, unlike any window's before"
    if not isinstance(column, CategoryLayout):
        return f"mean {reference.mean(name):.4g} to {current.mean(name):.4g}"
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
