"""Thresholds learnt from the reference's own windows: how far unchanged windows of a length lie from the others.

A column shows a change by three signs: its distribution is elsewhere (the effect: W1/sd or Jensen-Shannon), its
spread within a window is another one whatever the window's mean, or its values are ones that never came before.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from modelyard.deliver.monitoring import statistics
from modelyard.deliver.monitoring.sketches import OFF, Floats, NumericLayout, Sketch
from modelyard.deliver.monitoring.statistics import EmptyWindow

LEAST_WINDOWS = 30
RUNS = (2, 3, 5)
"""So many windows in a row are judged together too: a change that hides in the noise of one shows in their sum."""
DEVIATIONS = (4.5, 6.0, 8.0)
"""A limit lies this many standard deviations above the mean of the reference's own windows: the least number with
which at most TABLE_RATE of those windows, each judged by the others, would have alarmed in any column."""
MARGIN = 1.1
"""And this much above the largest of them, which decides where tails are heavy."""
RUN_DEVIATIONS = 5.0
"""Runs of windows overlap, so that each says less than a window of its own: a fixed, larger number for them."""
TABLE_RATE = 0.05
SIGNIFICANCE_CALIBRATED = 0.05
"""An effect must be significant too, for all columns together: of many one exceeds its own limit by chance."""
SPREAD = (0.1, 0.9)
"""The spread is the distance between these quantiles, which heavy tails do not shake as they do a variance."""


class Signs(NamedTuple):
    """What a window shows of a column, or the limits of it.

    effect: W1/sd or Jensen-Shannon distance; spread: how far the log of the range between the quantiles SPREAD lies
    from that of the reference's windows; unseen: share of the rows with a value that never came before, where the
    reference has few distinct ones.
    """

    effect: float
    spread: float
    unseen: float


FLOORS = Signs(0.1, 0.2, 0.05)
"""No limit that is learnt goes below these: smaller changes matter to no model."""


@dataclass(frozen=True)
class Thresholds:
    """Limits that the reference's own windows of `window_rows` rows do not exceed, by column.

    spreads: the mean of the logs of their spreads, NaN without any.
    column_rate: how often one column of an unchanged window exceeds a limit, at most (1 / (windows + 1)).
    table_rate: how often any column of an unchanged window does, by judging each window by the others.
    """

    window_rows: int
    windows: int
    by_column: dict[str, Signs]
    spreads: dict[str, float]
    column_rate: float
    table_rate: float


def signs(reference: Sketch, current: Sketch, name: str, effect: float, usual: float) -> Signs:
    """The signs of a column's window against a reference whose distance is known already.

    usual: the mean log spread of the reference's windows; NaN where none is known.
    """
    off = abs(log_spread(current, name) - usual)
    return Signs(effect, 0.0 if math.isnan(off) else off, unseen(reference, current, name))


def log_spread(sketch: Sketch, name: str) -> float:
    """The log of the distance between the quantiles SPREAD of a numeric column's window; NaN without one."""
    column, known = sketch.layout.columns[name], sketch.known(name)
    if not isinstance(column, NumericLayout) or not known:
        return math.nan
    at = np.searchsorted(sketch.counted(name), np.multiply(SPREAD, known))
    low, high = column.edges[np.minimum(at, len(column.edges) - 1)]
    return math.log(high - low) if high > low else math.nan


def unseen(reference: Sketch, current: Sketch, name: str) -> float:
    """The share of a window's rows whose value the reference does not have; 0 where it has too many to know."""
    column, known = reference.layout.columns[name], current.known(name)
    if not isinstance(column, NumericLayout) or not column.exact or not known:
        return 0.0
    off = float(current.measured(name)[OFF])
    if off:  # a rolling reference may have such rows as well, and then nobody knows whether they are the same
        return 0.0 if reference.measured(name)[OFF] else off / known
    never = np.diff(reference.counted(name), prepend=0) == 0
    return float(np.diff(current.counted(name), prepend=0)[never].sum()) / known


def expected_unseen(reference: Sketch, name: str) -> float:
    """The chance that a next row has a value that never came: the share of values that came once (Good 1953)."""
    known = reference.known(name)
    once = int((np.diff(reference.counted(name), prepend=0) == 1).sum())
    return once / known if known else 1.0


def learn(windows: Sequence[Sketch], window_rows: int) -> Thresholds | None:
    """Thresholds from the reference's own windows in the order of time; None with fewer than LEAST_WINDOWS."""
    if len(windows) < LEAST_WINDOWS:
        return None
    found, counts, spreads = _found(windows, windows)
    times, rate = _least(found, counts)
    return _thresholds(windows, window_rows, found, spreads, times, rate)


def learn_runs(windows: Sequence[Sketch], window_rows: int) -> dict[int, Thresholds]:
    """Thresholds for each of RUNS windows in a row taken as one, from every such run; those that are enough."""
    learnt: dict[int, Thresholds] = {}
    for length in RUNS:
        runs = [merged(windows[start : start + length]) for start in range(len(windows) - length + 1)]
        if len(runs) >= LEAST_WINDOWS:
            found, _, spreads = _found(windows, runs)
            rate = length / (len(windows) + 1)
            learnt[length] = _thresholds(runs, window_rows * length, found, spreads, RUN_DEVIATIONS, rate)
    return learnt


def merged(windows: Sequence[Sketch]) -> Sketch:
    """Windows on one layout taken as one; at least one."""
    whole = Sketch(windows[0].layout)
    for window in windows:
        whole.merge(window)
    return whole


def _found(windows: Sequence[Sketch], parts: Sequence[Sketch]) -> tuple[Floats, Any, Floats]:
    """(signs of each part of the windows against the rest of them, which of them count for an alarm, log spreads).

    The first two of shape (parts, compared columns, 3), the last of (parts, compared columns).
    """
    whole = merged(windows)
    names = list(whole.layout.columns)
    spreads = np.array([[log_spread(part, name) for name in names] for part in parts])
    held = ~np.isnan(spreads)
    others = np.where(held, spreads, 0).sum(axis=0) - np.where(held, spreads, 0)
    usual = others / np.maximum(held.sum(axis=0) - held, 1)
    found = np.zeros((len(parts), len(names), len(Signs._fields)))
    counts = np.ones(found.shape, bool)
    for row, part in enumerate(parts):
        rest = whole.minus(part)
        for column, name in enumerate(names):
            try:
                distances = statistics.compare(rest, part, name)
            except EmptyWindow:
                continue
            found[row, column] = signs(rest, part, name, distances.effect, usual[row, column])
            p_value = statistics.p_value(rest, part, name, distances)
            counts[row, column, 0] = p_value < SIGNIFICANCE_CALIBRATED / len(names)
    return found, counts, spreads


def _limits(found: Floats, times: float) -> Floats:
    usual = found.mean(axis=0) + times * found.std(axis=0, ddof=1)
    return np.maximum(FLOORS, np.maximum(usual, MARGIN * found.max(axis=0)))


def _thresholds(
    parts: Sequence[Sketch], rows: int, found: Floats, spreads: Floats, times: float, rate: float
) -> Thresholds:
    limits = [Signs(*values) for values in _limits(found, times).tolist()]
    names = parts[0].layout.columns
    held = ~np.isnan(spreads)
    sums, counts = np.where(held, spreads, 0).sum(axis=0), held.sum(axis=0)
    usual = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).tolist()
    return Thresholds(
        rows,
        len(parts),
        dict(zip(names, limits, strict=True)),
        dict(zip(names, usual, strict=True)),
        1 / (len(parts) + 1),
        rate,
    )


def _least(found: Floats, counts: Any) -> tuple[float, float]:
    """(the least number of DEVIATIONS that will do, share of windows that alarm when judged by the others)."""
    rate = 1.0
    for times in DEVIATIONS:
        beyond = [
            (found[row] > _limits(np.delete(found, row, axis=0), times)) & counts[row] for row in range(len(found))
        ]
        alarms = sum(bool(item.any()) for item in beyond)
        rate = (alarms + 0.5) / (len(found) + 1)
        if alarms <= TABLE_RATE * len(found):
            return times, rate
    return DEVIATIONS[-1], rate
