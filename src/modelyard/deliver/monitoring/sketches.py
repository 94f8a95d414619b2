"""A table's window as numbers that can be added: counts over the reference's edges and categories, and sums.

A window is sketched once, in one pass of small sorts; windows are merged by addition, and no raw row is read twice.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from modelyard.deliver.monitoring.categories import category_counts

CHUNK = 65_536
"""Rows sorted at once: they stay in a processor's cache."""
MOST_NEW = 1000
"""Categories that the reference does not know are named up to this many a column; the rest is only counted."""
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
ROWS, MISSING, SUM, SQUARES, BELOW, ABOVE, OFF, LOW, HIGH = range(9)
MEASURES = 9
SAME = 1e-6
"""A value this close to an edge, relative to it, is that value: single precision rounds by less."""
FORMAT = 2
"""Raise when the meaning of a stored sketch changes; older ones are then made again from the log."""


@dataclass(frozen=True)
class NumericLayout:
    """Where a numeric column's values are counted: edges ascending, shape (n,); sums are taken around `origin`.

    exact: the edges are all the values that the reference has.
    """

    edges: Floats
    origin: float
    exact: bool = False

    @property
    def slots(self) -> int:
        return len(self.edges)


@dataclass(frozen=True)
class CategoryLayout:
    """Which categories have a slot of their own; the slot after the last counts all others."""

    names: list[str]

    @property
    def slots(self) -> int:
        return len(self.names) + 1


class Slot(NamedTuple):
    """A column's place in a sketch: the slice of `counts` and the row of `measures`."""

    start: int
    end: int
    row: int


@dataclass(frozen=True)
class Layout:
    """The columns of a sketch, in order, and their places. Sketches add up only on one layout."""

    columns: dict[str, NumericLayout | CategoryLayout]
    places: dict[str, Slot] = field(init=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        places: dict[str, Slot] = {}
        start = 0
        for row, (name, column) in enumerate(self.columns.items()):
            places[name] = Slot(start, start + column.slots, row)
            start += column.slots
        object.__setattr__(self, "places", places)
        object.__setattr__(self, "size", start)


class Sketch:
    """counts: numeric columns hold the rows at or below each edge (cumulative), categories the rows of each.

    measures, shape (columns, 9): rows, missing, sum and sum of squares around the origin, distance sums below the
    first and above the last edge, rows that lie on no edge (where edges are exact), lowest and highest value.
    new: rows of categories without a slot, by name.
    """

    __slots__ = ("counts", "layout", "measures", "new")

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.counts: Counts = np.zeros(layout.size, np.int64)
        self.measures: Floats = np.zeros((len(layout.columns), MEASURES))
        self.measures[:, LOW], self.measures[:, HIGH] = np.inf, -np.inf
        self.new: dict[str, dict[str, int]] = {}

    def add(self, name: str, values: Any) -> None:
        """Count a column's values: floats (NaN is missing) for a numeric one, an Arrow array for categories."""
        column, place = self.layout.columns[name], self.layout.places[name]
        counts, measures = self.counts[place.start : place.end], self.measures[place.row]
        if isinstance(column, NumericLayout):
            for start in range(0, len(values), CHUNK):
                add_sorted(np.sort(values[start : start + CHUNK]), column, counts, measures)
        else:
            self._add_categories(name, values, column, counts, measures)

    def _add_categories(
        self, name: str, values: Any, column: CategoryLayout, counts: Counts, measures: Floats
    ) -> None:
        slots = {category: slot for slot, category in enumerate(column.names)}
        measures[ROWS] += len(values)
        for category, count in category_counts(values).items():
            if category is None:
                measures[MISSING] += count
                continue
            counts[slots.get(category, -1)] += count
            if category not in slots:
                self._note_new(name, category, count)

    def _note_new(self, name: str, category: str, count: int) -> None:
        held = self.new.setdefault(name, {})
        if category in held or len(held) < MOST_NEW:
            held[category] = held.get(category, 0) + count

    def merge(self, other: "Sketch") -> None:
        """Add another window on the same layout to this one."""
        self.counts += other.counts
        self.measures[:, :LOW] += other.measures[:, :LOW]
        np.minimum(self.measures[:, LOW], other.measures[:, LOW], out=self.measures[:, LOW])
        np.maximum(self.measures[:, HIGH], other.measures[:, HIGH], out=self.measures[:, HIGH])
        for name, found in other.new.items():
            for category, count in found.items():
                self._note_new(name, category, count)

    def minus(self, other: "Sketch") -> "Sketch":
        """A window without another that is part of it; extremes stay those of the whole."""
        rest = Sketch(self.layout)
        rest.counts = self.counts - other.counts
        rest.measures = self.measures.copy()
        rest.measures[:, :LOW] -= other.measures[:, :LOW]
        return rest

    def counted(self, name: str) -> Counts:
        place = self.layout.places[name]
        return self.counts[place.start : place.end]

    def measured(self, name: str) -> Floats:
        return self.measures[self.layout.places[name].row]

    def known(self, name: str) -> float:
        """Rows whose value is not missing."""
        measures = self.measured(name)
        return float(measures[ROWS] - measures[MISSING])

    def mean(self, name: str) -> float | None:
        column, known = self.layout.columns[name], self.known(name)
        if isinstance(column, CategoryLayout) or not known:
            return None
        return column.origin + float(self.measured(name)[SUM]) / known

    def deviation(self, name: str) -> float:
        """Standard deviation of the known values; 0 without any."""
        known, measures = self.known(name), self.measured(name)
        if not known:
            return 0.0
        return float(np.sqrt(max(measures[SQUARES] / known - (measures[SUM] / known) ** 2, 0.0)))

    @property
    def rows(self) -> int:
        return int(self.measures[:, ROWS].max()) if len(self.measures) else 0


def add_sorted(part: Floats, column: NumericLayout, counts: Counts, measures: Floats) -> None:
    """Add sorted values, NaN last, to a column's counts and measures. `part` is used up."""
    rows = len(part)
    known = part if rows and part[-1] == part[-1] else part[: int(np.searchsorted(part, np.nan))]
    if len(known) and (known[0] == -np.inf or known[-1] == np.inf):  # not a number to measure by: missing
        known = known[int(np.searchsorted(known, -np.inf, side="right")) : int(np.searchsorted(known, np.inf))]
    measures[ROWS] += rows
    measures[MISSING] += rows - len(known)
    if not len(known):
        return
    edges = column.edges
    slack = np.abs(edges) * SAME if column.exact else 0.0
    below_or_on = np.searchsorted(known, edges + slack, side="right")
    counts += below_or_on
    if column.exact:
        measures[OFF] += len(known) - (below_or_on - np.searchsorted(known, edges - slack)).sum()
    low, high = known[0], known[-1]
    measures[LOW], measures[HIGH] = min(measures[LOW], low), max(measures[HIGH], high)
    if low < edges[0]:
        below = known[: int(np.searchsorted(known, edges[0]))]
        measures[BELOW] += edges[0] * len(below) - below.sum()
    if high > edges[-1]:
        above = known[int(np.searchsorted(known, edges[-1], side="right")) :]
        measures[ABOVE] += above.sum() - edges[-1] * len(above)
    known -= column.origin
    measures[SUM] += known.sum()
    np.multiply(
        known, known, out=known
    )  # not np.dot: the threads of a linear algebra library spin for longer than this takes
    measures[SQUARES] += known.sum()


class _Stored(msgspec.Struct, array_like=True):
    format: int
    counts: bytes
    measures: bytes
    new: dict[str, dict[str, int]]


def encode(sketch: Sketch) -> bytes:
    """A sketch as bytes; its layout is kept by the reference that it belongs to."""
    small = not len(sketch.counts) or int(sketch.counts.max()) < 2**32
    counts = sketch.counts.astype("<u4" if small else "<i8").tobytes()
    return msgspec.msgpack.encode(_Stored(FORMAT, counts, sketch.measures.astype("<f8").tobytes(), sketch.new))


def decode(data: bytes, layout: Layout) -> Sketch | None:
    """The stored sketch; None when it is of another format or layout, and is to be made again."""
    stored = msgspec.msgpack.decode(data, type=_Stored)
    sketch = Sketch(layout)
    width = len(stored.counts) // max(layout.size, 1)
    if stored.format != FORMAT or len(stored.measures) != sketch.measures.nbytes or width not in (0, 4, 8):
        return None
    sketch.counts = np.frombuffer(stored.counts, "<u4" if width == 4 else "<i8").astype(np.int64)
    sketch.measures = np.frombuffer(stored.measures, "<f8").reshape(sketch.measures.shape).copy()
    sketch.new = stored.new
    return sketch
