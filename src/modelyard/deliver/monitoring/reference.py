"""The reference, prepared once: edges, categories, its own sketch, the windows that it holds, importances."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from modelyard.deliver.monitoring import sketches, statistics
from modelyard.deliver.monitoring.categories import category_counts
from modelyard.deliver.monitoring.columns import COUNTED, Kind, as_arrow, expand, kind_of, why_not
from modelyard.deliver.monitoring.sketches import (
    CategoryLayout,
    Floats,
    Layout,
    NumericLayout,
    Sketch,
)
from modelyard.deliver.monitoring.tables import Table, by_column
from modelyard.deliver.monitoring.thresholds import LEAST_WINDOWS, Thresholds, learn
from modelyard.domain.errors import Invalid

RARE = 0.005
"""Categories below this share of the reference are counted as one."""
MOST_SAMPLED = 1_000_000
"""Edges of a larger reference come from this many of its rows; its counts come from all of them."""
MOST_WINDOWS = 120


Prepared = tuple[str, Any, tuple[Any, Any, dict[str, int]]]
"""A compared column, its layout, its counts, measures and new categories."""


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
    names = [name for name in table.names if name not in ignore]
    for name, found in zip(names, by_column(table, names, partial(_of_column, table)), strict=True):
        if found is None:
            continue
        kinds[name] = found[0]
        for part, layout, done in found[1]:
            layouts[part], filled[part] = layout, done
    sketch = Sketch(Layout(layouts))
    for part, (counts, measures, new) in filled.items():
        place = sketch.layout.places[part]
        sketch.counts[place.start : place.end] = counts
        sketch.measures[place.row] = measures
        if new:
            sketch.new[part] = new
    return Reference(kinds, sketch)


def _of_column(table: Table, name: str) -> tuple[Kind, list[Prepared]] | None:
    """A column's kind and what is compared of it; None for one without a value. Raises Invalid: see prepare."""
    chunks = table.chunks(name)
    first = next(chunks, None)
    if first is None or not len(first):
        return None
    if reason := why_not(first):
        raise Invalid(
            f"{name} holds {reason}, which cannot be compared.",
            remedy="Give an embedding (one vector of numbers a row) in its place, or leave the column out.",
        )
    kind = kind_of(first)
    return kind, _prepare_column(table, name, kind, itertools.chain([first], chunks))


def _prepare_column(table: Table, name: str, kind: Kind, chunks: Iterable[Any]) -> list[Prepared]:
    if kind in COUNTED:
        done = _prepare_categories(name, chunks)
        return [(name, *done)]
    stride = max(1, -(-table.rows // MOST_SAMPLED))
    samples: dict[str, list[Floats]] = {}
    for chunk in chunks:
        for part, values in expand(name, kind, chunk).items():
            samples.setdefault(part, []).append(values[::stride] if stride == 1 else values[::stride].copy())
    found: list[Prepared] = []
    for part, values in samples.items():
        ordered = np.concatenate(values)
        values.clear()
        ordered.sort()
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


def _prepare_categories(name: str, chunks: Iterable[Any]) -> tuple[CategoryLayout, tuple[Any, Any, dict[str, int]]]:
    counts: dict[str | None, int] = {}
    rows = 0
    for chunk in chunks:
        rows += len(chunk)
        for category, count in category_counts(as_arrow(chunk)).items():
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
    names = [name for name in reference.kinds if name in held]
    by_column(table, names, partial(_sketch_column, reference, sketch, table))
    return sketch


def _sketch_column(reference: Reference, sketch: Sketch, table: Table, name: str) -> None:
    """Count a column in its own part of the sketch."""
    kind = reference.kinds[name]
    for number, chunk in enumerate(table.chunks(name)):
        if number == 0 and not _numbers_still(kind, chunk):
            return
        for part, values in expand(name, kind, chunk).items():
            if part in reference.layout.columns:
                sketch.add(part, values)


def _numbers_still(kind: Kind, values: Any) -> bool:
    """Whether a column of numbers still holds some; text in its place is a finding about its type, not a distance."""
    return kind != "numeric" or not len(values) or kind_of(values) in ("numeric", "boolean")


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

    def spread(name: str) -> None:
        offset = 0
        for chunk in table.chunks(name):
            for part, values in expand(name, reference.kinds[name], chunk).items():
                if part in reference.layout.columns:
                    _spread(found, part, values, offset, window_rows)
            offset += len(chunk)

    by_column(table, list(reference.kinds), spread)
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
