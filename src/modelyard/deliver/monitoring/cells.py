"""The prediction log as cells: one sketch for each slide's worth of rows, made once and merged into windows."""

import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from modelyard.deliver.monitoring import sketches
from modelyard.deliver.monitoring.reference import Reference, sketch_table
from modelyard.deliver.monitoring.sketches import Layout, Sketch
from modelyard.deliver.monitoring.tables import MemoryTable
from modelyard.deliver.serving import log_rows
from modelyard.domain.monitors import Window as Declared
from modelyard.domain.sections import seconds
from modelyard.kit.files import atomic_write

LATENCY_MS = np.geomspace(0.1, 60_000, 120)
PREFIX = "input."
MOST_CELLS = 800
"""Older cells are forgotten: a month of hours, or two years of days."""


@dataclass
class Cell:
    """A run of one version's rows: start and end in milliseconds, rows, sketch, latencies by LATENCY_MS bucket.

    requests and failed: of sealed segments, counted in the cell that is open when a segment is read.
    """

    version: int
    start: int
    end: int
    rows: int
    sketch: Sketch
    latencies: "np.ndarray[Any, np.dtype[np.int64]]"
    requests: int = 0
    failed: int = 0

    @classmethod
    def empty(cls, version: int, start: int, layout: Layout) -> "Cell":
        return cls(version, start, start, 0, Sketch(layout), np.zeros(len(LATENCY_MS) + 1, np.int64))

    def merge(self, other: "Cell") -> None:
        self.start, self.end = min(self.start, other.start), max(self.end, other.end)
        self.rows += other.rows
        self.sketch.merge(other.sketch)
        self.latencies += other.latencies
        self.requests += other.requests
        self.failed += other.failed

    def latency_ms(self, share: float) -> float | None:
        """Upper bound of the bucket that holds the quantile; None without rows."""
        total = int(self.latencies.sum())
        if not total:
            return None
        at = int(np.searchsorted(np.cumsum(self.latencies), share * total))
        return float(LATENCY_MS[min(at, len(LATENCY_MS) - 1)])


class _StoredCell(msgspec.Struct, array_like=True):
    version: int
    start: int
    end: int
    rows: int
    sketch: bytes
    latencies: list[int]
    done: bool
    requests: int = 0
    failed: int = 0


class _State(msgspec.Struct):
    """Rows read of each open segment, names of the sealed ones read whole; cells, the last of a version open."""

    read: dict[str, int]
    sealed: list[str]
    cells: list[_StoredCell]


class Cells:
    """The cells of one endpoint's log on one reference; `add` takes each row once, `save` keeps what was made."""

    def __init__(self, file: Path, layout: Layout, declared: Declared) -> None:
        self._file, self._layout = file, layout
        slide = declared.slide if declared.slide is not None else (declared.rows or declared.time or "1h")
        self._rows = slide if isinstance(slide, int) else None
        self._length = int(seconds(slide) * 1000) if isinstance(slide, str) else 0
        self.read: dict[str, int] = {}
        self.sealed: set[str] = set()
        self.done: list[Cell] = []
        self._open: dict[int, Cell] = {}
        self._load()

    def add(self, reference: Reference, segment: str, table: Any, sealed: bool = True) -> None:
        """Count the rows of a segment that were not counted yet. table: Arrow, all rows that the segment has now."""
        start = self.read.pop(segment, 0)
        if sealed:
            self.sealed.add(segment)
            self._note_requests(table)
        else:
            self.read[segment] = table.num_rows
        if start >= table.num_rows:
            return
        fresh = table.slice(start).sort_by("time_ms")
        versions = fresh.column("version").to_numpy()
        for version in np.unique(versions).tolist():
            self._add_version(reference, int(version), fresh.filter(versions == version))

    def _note_requests(self, table: Any) -> None:
        for version, seen in log_rows.requests(table).items():
            cell = self._open.get(version)
            if cell is None:
                cell = self._open[version] = Cell.empty(version, seen.newest, self._layout)
            cell.requests += seen.all
            cell.failed += seen.failed

    def _add_version(self, reference: Reference, version: int, table: Any) -> None:
        times = table.column("time_ms").to_numpy()
        offset = 0
        while offset < len(times):
            cell = self._open.get(version)
            if cell is None:
                cell = self._open[version] = Cell.empty(version, int(times[offset]), self._layout)
            count = self._room(cell, times[offset:])
            if count:
                self._count(reference, cell, table.slice(offset, count), times[offset : offset + count])
                offset += count
            if self._full(cell, int(times[offset]) if offset < len(times) else None):
                self.done.append(self._open.pop(version))

    def _room(self, cell: Cell, times: Any) -> int:
        if self._rows is not None:
            return min(self._rows - cell.rows, len(times))
        return int(np.searchsorted(times, self._end(cell)))

    def _end(self, cell: Cell) -> int:
        """Where a cell of time ends: on the grid of its length since the epoch."""
        return (cell.start // self._length + 1) * self._length

    def _full(self, cell: Cell, next_time: int | None) -> bool:
        if self._rows is not None:
            return cell.rows >= self._rows
        return next_time is not None and next_time >= self._end(cell)

    def _count(self, reference: Reference, cell: Cell, table: Any, times: Any) -> None:
        part = Cell.empty(cell.version, int(times[0]), self._layout)
        part.end, part.rows = int(times[-1]), len(times)
        part.sketch = sketch_table(reference, MemoryTable(inputs(table)))
        if "latency_ms" in table.column_names:
            found = np.searchsorted(LATENCY_MS, table.column("latency_ms").to_numpy())
            part.latencies = np.bincount(found, minlength=len(LATENCY_MS) + 1).astype(np.int64)
        cell.merge(part)

    def windows(
        self, size: int, version: int, after: int = 0, judged: Collection[tuple[int, int]] = ()
    ) -> Iterator[Cell]:
        """Merges of `size` consecutive complete cells of a version; only those that end after `after`.

        judged: (start, end) of windows seen before; another one that ends in the same millisecond as the last of
        them is not seen yet.
        """
        cells = sorted((cell for cell in self.done if cell.version == version), key=lambda cell: cell.start)
        for last in range(size - 1, len(cells)):
            if cells[last].end < after:
                continue
            window = Cell.empty(version, cells[last - size + 1].start, self._layout)
            for cell in cells[last - size + 1 : last + 1]:
                window.merge(cell)
            if window.end > after or (judged and (window.start, window.end) not in judged):
                yield window

    def close(self, now: int) -> None:
        """Complete the open cells of time whose time is over although no later row came."""
        if self._rows is None:
            for version in [version for version, cell in self._open.items() if now >= self._end(cell)]:
                self.done.append(self._open.pop(version))

    def save(self) -> None:
        """Keep everything atomically: a crash before it repeats work and counts nothing twice."""
        self.done = self.done[-MOST_CELLS:]
        cells = [_stored(cell, True) for cell in self.done] + [_stored(cell, False) for cell in self._open.values()]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(
            self._file, zlib.compress(msgspec.msgpack.encode(_State(self.read, sorted(self.sealed), cells)), 1)
        )

    def _load(self) -> None:
        try:
            state = msgspec.msgpack.decode(zlib.decompress(self._file.read_bytes()), type=_State)
        except (OSError, zlib.error, msgspec.DecodeError):
            return
        for stored in state.cells:
            sketch = sketches.decode(stored.sketch, self._layout)
            if sketch is None:
                self.done, self._open = [], {}
                return
            latencies = np.array(stored.latencies, np.int64)
            cell = Cell(stored.version, stored.start, stored.end, stored.rows, sketch, latencies)
            cell.requests, cell.failed = stored.requests, stored.failed
            if stored.done:
                self.done.append(cell)
            else:
                self._open[cell.version] = cell
        self.read, self.sealed = state.read, set(state.sealed)


def _stored(cell: Cell, done: bool) -> _StoredCell:
    encoded = sketches.encode(cell.sketch)
    latencies = cell.latencies.tolist()
    held = cell.version, cell.start, cell.end, cell.rows, encoded, latencies, done, cell.requests, cell.failed
    return _StoredCell(*held)


def inputs(table: Any) -> dict[str, Any]:
    """The model's inputs and its prediction, by the names that the reference has."""
    return {name.removeprefix(PREFIX): table.column(name) for name in table.column_names if name != "label"}
