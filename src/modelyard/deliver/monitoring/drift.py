"""Which columns drifted: thresholds learnt from the reference's own windows, with a floor under the effect."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from modelyard.deliver.monitoring import statistics
from modelyard.deliver.monitoring.statistics import Distances, EmptyWindow

LEAST_WINDOWS = 30
FLOOR_LEARNT = 0.1
"""No threshold that is learnt goes below this effect: smaller ones matter to no model."""
FLOOR_UNCALIBRATED = 0.1
SIGNIFICANCE = 0.01
MARGIN = 1.1
"""A learnt threshold lies this much above the largest effect among the reference's own windows."""


@dataclass(frozen=True)
class ColumnDrift:
    """One column's verdict. `false_alarm_rate` is what to expect of this threshold on unchanged windows."""

    name: str
    kind: str
    test: str
    effect: float
    threshold: float
    psi: float
    p_value: float
    drifted: bool
    calibrated: bool
    false_alarm_rate: float
    before: float | None = None
    after: float | None = None


def compare_table(reference: dict[str, Any], current: dict[str, Any], window_rows: int) -> list[ColumnDrift]:
    """Every column's drift, the largest effect relative to its threshold first.

    reference, current: arrays by column name; numbers as floats, anything else as text. The reference's rows are in
    the order of time. window_rows: length of the monitored windows, in rows; thresholds hold for that length alone.
    """
    found: list[ColumnDrift] = []
    for name, values in reference.items():
        if name in current and len(current[name]):
            drift = _column(name, values, current[name], window_rows, len(reference))
            if drift is not None:
                found.append(drift)
    return sorted(found, key=lambda column: -column.effect / column.threshold)


def _column(name: str, reference: Any, current: Any, window_rows: int, columns: int) -> ColumnDrift | None:
    numeric = reference.dtype.kind == "f"
    try:
        distances = _distances(reference, current, numeric)
    except EmptyWindow:
        return None
    own = _own_effects(reference, numeric, window_rows)
    if own is not None:
        threshold = max(FLOOR_LEARNT, MARGIN * float(np.max(own)))
        drifted = distances.effect > threshold
        rate = 1 / (len(own) + 1)
    else:
        threshold = FLOOR_UNCALIBRATED
        drifted = distances.effect >= threshold and distances.p_value < SIGNIFICANCE / columns
        rate = SIGNIFICANCE / columns
    return ColumnDrift(
        name=name,
        kind="numeric" if numeric else "categorical",
        test="W1/sd" if numeric else "Jensen-Shannon",
        effect=distances.effect,
        threshold=threshold,
        psi=distances.psi,
        p_value=distances.p_value,
        drifted=bool(drifted),
        calibrated=own is not None,
        false_alarm_rate=rate,
        before=float(np.nanmean(reference)) if numeric else None,
        after=float(np.nanmean(current)) if numeric else None,
    )


def _distances(reference: Any, current: Any, numeric: bool) -> Distances:
    if numeric:
        return statistics.compare_numeric(statistics.prepare_numeric(reference), current)
    return statistics.compare_categories(reference, current)


def _own_effects(reference: Any, numeric: bool, window_rows: int) -> Any:
    """Effects of the reference's own windows, each against the rest; None with fewer than LEAST_WINDOWS of them."""
    count = len(reference) // window_rows
    if count < LEAST_WINDOWS:
        return None
    effects: list[float] = []
    for index in range(count):
        start, end = index * window_rows, (index + 1) * window_rows
        rest = np.concatenate([reference[:start], reference[end:]])
        try:
            effects.append(_distances(rest, reference[start:end], numeric).effect)
        except EmptyWindow:
            continue
    return np.array(effects) if effects else None


def as_rows(columns: list[ColumnDrift]) -> list[dict[str, Any]]:
    return [asdict(column) for column in columns]
