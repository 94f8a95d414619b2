"""The reference, prepared once: edges, categories, its own sketch, the windows that it holds, importances."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelyard.deliver.monitoring import sketches, statistics
from modelyard.deliver.monitoring.columns import COUNTED, Kind, as_arrow, expand, kind_of, why_not
from modelyard.deliver.monitoring.sketches import (
    CategoryLayout,
    Floats,
    Layout,
    NumericLayout,
    Sketch,
)
from modelyard.deliver.monitoring.tables import Table, head
from modelyard.deliver.monitoring.thresholds import LEAST_WINDOWS, Thresholds, learn
from modelyard.domain.errors import Invalid

RARE = 0.005
"""Categories below this share of the reference are counted as one."""
MOST_SAMPLED = 1_000_000
"""Edges of a larger reference come from this many of its rows; its counts come from all of them."""
MOST_WINDOWS = 120


@dataclass
class Reference:
    """kinds: the table's columns; sketch: what is compared of them; importance: share of what the model looks at."""

    kinds: dict[str, Kind]
    sketch: Sketch
    importance: dict[str, float] = field(default_factory=dict[str, float])
    thresholds: Thresholds | None = None

    @property
    def layout(self) -> Layout:
        return self.sketch.layout

    def owner(self, name: str) -> str:
        """The table's column that a compared column describes: `note` of `note.length`."""
        return name if name in self.kinds else name.rpartition(".")[0]


def prepare(table: Table, ignore: Sequence[str] = ()) -> Reference:
    """The reference that a table is. Columns without a value, and those in `ignore`, are left out.

    Raises Invalid for a column of bytes, records, images or lists of text.
    """
    kinds: dict[str, Kind] = {}
    layouts: dict[str, NumericLayout | CategoryLayout] = {}
    filled: dict[str, tuple[Any, Any, dict[str, int]]] = {}
    for name in table.names:
        first = None if name in ignore else head(table, name)
        if first is None or not len(first):
            continue
        if reason := why_not(first):
            raise Invalid(
                f"{name} holds {reason}, which cannot be compared.",
                remedy="Give an embedding (one vector of numbers a row) in its place, or leave the column out.",
            )
        kinds[name] = kind_of(first)
        for part, layout, done in _prepare_column(table, name, kinds[name]):
            layouts[part], filled[part] = layout, done
    sketch = Sketch(Layout(layouts))
    for part, (counts, measures, new) in filled.items():
        place = sketch.layout.places[part]
        sketch.counts[place.start : place.end] = counts
        sketch.measures[place.row] = measures
        if new:
            sketch.new[part] = new
    return Reference(kinds, sketch)


def _prepare_column(table: Table, name: str, kind: Kind) -> list[tuple[str, Any, tuple[Any, Any, dict[str, int]]]]:
    """(compared column, its layout, its counts, measures and new categories) of one column of the table."""
    if kind in COUNTED:
        done = _prepare_categories(table, name)
        return [(name, *done)]
    stride = max(1, -(-table.rows // MOST_SAMPLED))
    samples: dict[str, list[Floats]] = {}
    for chunk in table.chunks(name):
        for part, values in expand(name, kind, chunk).items():
            samples.setdefault(part, []).append(values[::stride] if stride == 1 else values[::stride].copy())
    found: list[tuple[str, Any, tuple[Any, Any, dict[str, int]]]] = []
    for part, values in samples.items():
        ordered = np.sort(np.concatenate(values) if len(values) > 1 else values[0])
        known = ordered[: int(np.searchsorted(ordered, np.inf))]
        known = known[int(np.searchsorted(known, -np.inf, side="right")) :]
        if not len(known):
            continue
        edges, exact = statistics.edges_of(known)
        layout = NumericLayout(edges, float(known.mean()), exact and stride == 1)
        if stride > 1:
            found.append((part, layout, _counted_again(table, name, kind, part, layout)))
            continue
        one = Sketch(Layout({part: layout}))
        sketches.add_sorted(ordered, layout, one.counts, one.measures[0])
        found.append((part, layout, (one.counts, one.measures[0], {})))
    return found


def _counted_again(
    table: Table, name: str, kind: Kind, part: str, layout: NumericLayout
) -> tuple[Any, Any, dict[str, int]]:
    """Counts of every row of a column whose edges come from a sample."""
    one = Sketch(Layout({part: layout}))
    for chunk in table.chunks(name):
        one.add(part, expand(name, kind, chunk)[part])
    return one.counts, one.measures[0], {}


def _prepare_categories(table: Table, name: str) -> tuple[CategoryLayout, tuple[Any, Any, dict[str, int]]]:
    counts: dict[str | None, int] = {}
    rows = 0
    for chunk in table.chunks(name):
        rows += len(chunk)
        for category, count in sketches.category_counts(as_arrow(chunk)).items():
            counts[category] = counts.get(category, 0) + count
    missing = counts.pop(None, 0)
    named = {category: count for category, count in counts.items() if category is not None}
    kept = sorted(category for category, count in named.items() if count / max(rows - missing, 1) >= RARE)
    rare = {category: count for category, count in named.items() if category not in set(kept)}
    one = Sketch(Layout({name: CategoryLayout(kept)}))
    one.counts[:] = [*(named[category] for category in kept), sum(rare.values())]
    one.measures[0, sketches.ROWS], one.measures[0, sketches.MISSING] = rows, missing
    return CategoryLayout(kept), (one.counts, one.measures[0], dict(list(rare.items())[: sketches.MOST_NEW]))


def sketch_table(reference: Reference, table: Table) -> Sketch:
    """A window on the reference's layout; columns that the window does not have stay at zero rows."""
    sketch = Sketch(reference.layout)
    held = set(table.names)
    for name, kind in reference.kinds.items():
        if name not in held or not _numbers_still(kind, head(table, name)):
            continue
        for chunk in table.chunks(name):
            for part, values in expand(name, kind, chunk).items():
                if part in reference.layout.columns:
                    sketch.add(part, values)
    return sketch


def _numbers_still(kind: Kind, values: Any) -> bool:
    """Whether a column of numbers still holds some; text in its place is a finding about its type, not a distance."""
    return kind != "numeric" or values is None or not len(values) or kind_of(values) in ("numeric", "boolean")


def own_windows(reference: Reference, table: Table, window_rows: int, in_a_row: bool = False) -> list[Sketch]:
    """The table's windows of `window_rows` rows, one after the other; at most MOST_WINDOWS, evenly chosen.

    in_a_row: the newest ones instead, without a gap.
    """
    count = table.rows // window_rows
    if count < LEAST_WINDOWS:
        return []
    if in_a_row:
        chosen = list(range(max(0, count - MOST_WINDOWS), count))
    else:
        chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_WINDOWS)).astype(int)).tolist()
    found = {number: Sketch(reference.layout) for number in chosen}
    for name, kind in reference.kinds.items():
        offset = 0
        for chunk in table.chunks(name):
            for part, values in expand(name, kind, chunk).items():
                if part in reference.layout.columns:
                    _spread(found, part, values, offset, window_rows)
            offset += len(chunk)
    return list(found.values())


def _spread(windows: dict[int, Sketch], part: str, values: Any, offset: int, window_rows: int) -> None:
    """Add a chunk that starts at row `offset` to the windows that it touches."""
    for number in range(offset // window_rows, (offset + len(values) - 1) // window_rows + 1):
        if number in windows:
            start = max(0, number * window_rows - offset)
            windows[number].add(part, values[start : (number + 1) * window_rows - offset])


def prepare_with_windows(table: Table, window_rows: int, ignore: Sequence[str] = ()) -> Reference:
    """The reference with thresholds for windows of `window_rows` rows, where it has enough of them."""
    reference = prepare(table, ignore)
    reference.thresholds = learn(own_windows(reference, table, window_rows), window_rows)
    return reference
