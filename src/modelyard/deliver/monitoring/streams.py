"""Row by row, for endpoints with so many rows that a window is long: when a column changed its level.

ADWIN keeps a window of the newest values that shrinks when its older and newer parts differ (Bifet and Gavalda 2007).
Each run reads the newest MOST_ROWS values anew, which takes a tenth of a second, so no detector's state has to be
kept.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from modelyard.domain.errors import MissingExtra

MOST_ROWS = 100_000
DELTA = 0.002
"""ADWIN's chance of a false alarm, shared among the streams. River's other detectors were tried: see ADR 112."""
GRACE = 200
"""Values that come before anything is said."""


@dataclass(frozen=True)
class Shift:
    """One change of a stream's level: when it was noticed (ms), the mean of what it kept before and after."""

    stream: str
    at: int
    before: float
    after: float


def shifts(values: Mapping[str, Any], times: Any) -> list[Shift]:
    """Every change of level, in the order of time. values: numbers by stream, shape (rows,), NaN is passed over.

    Raises MissingExtra without river.
    """
    try:
        from river.drift import ADWIN  # late: an extra, and slow to load
    except ImportError as error:
        raise MissingExtra("river", "streaming", "Watching streams") from error

    found: list[Shift] = []
    for name, column in values.items():
        known = np.flatnonzero(np.isfinite(column))[-MOST_ROWS:]
        detector = ADWIN(delta=DELTA / len(values), grace_period=GRACE)
        for at in known.tolist():
            before = float(detector.estimation)
            detector.update(float(column[at]))
            if detector.drift_detected:
                found.append(Shift(name, int(times[at]), before, float(detector.estimation)))
    return sorted(found, key=lambda shift: shift.at)


def title(found: list[Shift]) -> str:
    """What changed, in words."""
    if not found:
        return "no stream changed its level"
    named = [f"{shift.stream} {shift.before:.4g} to {shift.after:.4g}" for shift in found[-3:]]
    return f"{len(found)} change{'s' if len(found) > 1 else ''} of level: {', '.join(named)}"


def as_detail(found: list[Shift], rows: int, names: list[str]) -> dict[str, Any]:
    return {"shifts": [asdict(shift) for shift in found], "streams": names, "rows": rows, "delta": DELTA}
