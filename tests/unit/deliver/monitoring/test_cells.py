"""The log becomes cells: each row counted once, whatever is cut, reread, or killed in between."""

from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from modelyard.deliver.monitoring.cells import Cells, inputs
from modelyard.deliver.monitoring.reference import prepare, sketch_table
from modelyard.deliver.monitoring.tables import MemoryTable
from modelyard.deliver.serving import log_rows
from modelyard.domain.monitors import Window

MINUTE = 60_000
REFERENCE = prepare(MemoryTable({"x": pa.array([float(n) for n in range(100)])}))


def rows(start: int, count: int, version: int = 1, step: int = 1) -> pa.Table:
    return pa.table(
        {
            "time_ms": pa.array([start + n * step for n in range(count)], pa.int64()),
            "version": pa.array([version] * count, pa.int64()),
            "latency_ms": pa.array([1.0] * count),
            "input.x": pa.array([float(n % 100) for n in range(count)]),
        }
    )


def opened(folder: Path, declared: Window) -> Cells:
    return Cells(folder / "cells.zz", REFERENCE.layout, declared)


@pytest.mark.parametrize("cuts", [[250], [1, 99, 150], [100, 100, 50], [7] * 35 + [5]])
def test_cells_are_full_of_rows_however_the_segments_fall(tmp_path: Path, cuts: list[int]) -> None:
    table, at = rows(0, 250), 0
    made = opened(tmp_path, Window(rows=100))
    for number, count in enumerate(cuts):
        made.add(REFERENCE, f"segment-{number}", table.slice(at, count))
        at += count
    assert [cell.rows for cell in made.done] == [100, 100]
    expected = sketch_table(REFERENCE, MemoryTable(inputs(table.slice(100, 100))))
    assert (made.done[1].sketch.counts == expected.counts).all()


def test_an_open_segment_is_read_on_where_it_was_left(tmp_path: Path) -> None:
    table = rows(0, 230)
    made = opened(tmp_path, Window(rows=100))
    made.add(REFERENCE, "now", table.slice(0, 90), sealed=False)
    made.save()
    again = opened(tmp_path, Window(rows=100))
    again.add(REFERENCE, "now", table.slice(0, 150), sealed=False)
    again.add(REFERENCE, "now", table, sealed=True)
    assert [cell.rows for cell in again.done] == [100, 100] and again.sealed == {"now"}
    assert again.done[1].start == 100


def test_failed_requests_are_counted_once_when_their_segment_is_sealed(tmp_path: Path) -> None:
    counted = msgspec.json.encode({1: {"all": 230, "failed": 7, "newest": 5}})
    table = rows(0, 230).replace_schema_metadata({log_rows.REQUESTS: counted})
    made = opened(tmp_path, Window(rows=100))
    made.add(REFERENCE, "now", table.slice(0, 90), sealed=False)
    made.add(REFERENCE, "now", table, sealed=True)
    made.save()
    again = opened(tmp_path, Window(rows=100))
    (first, _) = again.done
    assert (first.requests, first.failed) == (230, 7) and sum(cell.failed for cell in again.done) == 7


def test_a_run_that_was_killed_before_it_saved_repeats_its_work(tmp_path: Path) -> None:
    first = opened(tmp_path, Window(rows=100))
    first.add(REFERENCE, "a", rows(0, 150))
    first.save()
    killed = opened(tmp_path, Window(rows=100))
    killed.add(REFERENCE, "b", rows(150, 80))
    again = opened(tmp_path, Window(rows=100))
    assert again.sealed == {"a"}
    again.add(REFERENCE, "b", rows(150, 80))
    assert sum(cell.sketch.rows for cell in again.done) == 200


def test_versions_have_cells_of_their_own(tmp_path: Path) -> None:
    made = opened(tmp_path, Window(rows=100))
    made.add(REFERENCE, "a", pa.concat_tables([rows(0, 120), rows(120, 120, version=2)]))
    assert sorted(cell.version for cell in made.done) == [1, 2]


def test_cells_of_time_lie_on_a_grid_and_close_when_their_time_is_over(tmp_path: Path) -> None:
    made = opened(tmp_path, Window(time="10m"))
    made.add(REFERENCE, "a", rows(5 * MINUTE, 20, step=MINUTE))
    assert [cell.rows for cell in made.done] == [5, 10]
    made.close(24 * MINUTE)
    assert len(made.done) == 2
    made.close(30 * MINUTE)
    assert [cell.rows for cell in made.done] == [5, 10, 5]


def test_sliding_windows_are_merges_of_cells(tmp_path: Path) -> None:
    made = opened(tmp_path, Window(rows=300, slide=100))
    made.add(REFERENCE, "a", rows(0, 500))
    windows = list(made.windows(3, 1))
    assert [(window.start, window.rows) for window in windows] == [(0, 300), (100, 300), (200, 300)]
    assert [window.start for window in made.windows(3, 1, after=399)] == [200]


def test_a_window_that_ends_in_the_millisecond_of_the_last_judged_one_is_judged_too(tmp_path: Path) -> None:
    made = opened(tmp_path, Window(rows=100))
    made.add(REFERENCE, "a", rows(0, 100))
    (first,) = made.windows(1, 1)
    made.add(REFERENCE, "b", rows(99, 100, step=0))
    (second,) = made.windows(1, 1, first.end, {(first.start, first.end)})
    assert (second.start, second.end, second.rows) == (99, 99, 100)
    assert not list(made.windows(1, 1, 99, {(0, 99), (99, 99)}))


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "cells.zz").write_bytes(b"torn")
    assert opened(tmp_path, Window(rows=10)).sealed == set()


def test_latencies_are_kept_as_counts(tmp_path: Path) -> None:
    made = opened(tmp_path, Window(rows=100))
    made.add(REFERENCE, "a", rows(0, 100))
    assert made.done[0].latency_ms(0.99) == pytest.approx(1.0, rel=0.15)
