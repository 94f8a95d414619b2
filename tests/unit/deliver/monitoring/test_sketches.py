"""Sketches add up: any way of cutting a table into segments gives the sketch of the whole."""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.deliver.monitoring import sketches
from modelyard.deliver.monitoring.reference import Reference, prepare, sketch_table
from modelyard.deliver.monitoring.sketches import MISSING, ROWS, Sketch
from modelyard.deliver.monitoring.tables import MemoryTable, open_table


def table(seed: int, rows: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    numbers = random.normal(5, 2, rows)
    numbers[random.random(rows) < 0.05] = np.nan
    kinds = np.array(["a", "b", "c", None], dtype=object)[random.integers(0, 4, rows)]
    return {"x": numbers, "whole": random.poisson(3, rows), "kind": pa.array(kinds.tolist())}


REFERENCE = prepare(MemoryTable(table(0, 5000)))


def cut(columns: dict[str, Any], start: int, end: int) -> MemoryTable:
    return MemoryTable({name: values[start:end] for name, values in columns.items()})


def same(first: Sketch, second: Sketch) -> bool:
    return bool(
        (first.counts == second.counts).all()
        and np.allclose(first.measures, second.measures, rtol=1e-9, atol=1e-6)
        and first.new == second.new
    )


@given(st.integers(0, 999), st.lists(st.integers(0, 3000), min_size=0, max_size=8))
@settings(max_examples=40, deadline=None)
def test_the_parts_add_up_to_the_whole(seed: int, cuts: list[int]) -> None:
    columns = table(seed, 3000)
    bounds = [0, *sorted(cuts), 3000]
    merged = Sketch(REFERENCE.layout)
    for start, end in itertools.pairwise(bounds):
        merged.merge(sketch_table(REFERENCE, cut(columns, start, end)))
    assert same(merged, sketch_table(REFERENCE, MemoryTable(columns)))


@given(st.integers(0, 999), st.integers(1, 2999))
@settings(max_examples=20, deadline=None)
def test_what_is_taken_away_is_what_was_added(seed: int, at: int) -> None:
    columns = table(seed, 3000)
    whole = sketch_table(REFERENCE, MemoryTable(columns))
    rest = whole.minus(sketch_table(REFERENCE, cut(columns, 0, at)))
    assert (rest.counts == sketch_table(REFERENCE, cut(columns, at, 3000)).counts).all()


def test_a_stored_sketch_is_the_same_sketch() -> None:
    columns = {**table(1, 800), "kind": pa.array(["new"] * 800)}
    made = sketch_table(REFERENCE, MemoryTable(columns))
    kept = sketches.decode(sketches.encode(made), REFERENCE.layout)
    assert kept is not None and same(kept, made) and kept.new == {"kind": {"new": 800}}


def test_a_sketch_of_another_layout_is_made_again() -> None:
    made = sketch_table(REFERENCE, MemoryTable(table(1, 80)))
    other = prepare(MemoryTable({"y": np.arange(10.0)}))
    assert sketches.decode(sketches.encode(made), other.layout) is None


def test_moments_are_those_of_numpy() -> None:
    values = np.random.default_rng(3).normal(1e9, 3, 20_000)
    reference = prepare(MemoryTable({"x": values}))
    made = sketch_table(reference, MemoryTable({"x": values + 1}))
    assert made.mean("x") == pytest.approx(values.mean() + 1, rel=1e-12)
    assert made.deviation("x") == pytest.approx(values.std(), rel=1e-6)


def test_infinite_and_missing_values_are_counted_as_missing() -> None:
    made = sketch_table(REFERENCE, MemoryTable({"x": np.array([1.0, np.nan, np.inf, -np.inf, 2.0])}))
    assert made.measured("x")[ROWS] == 5 and made.measured("x")[MISSING] == 3


def test_a_thousand_segments_merge_in_a_blink() -> None:
    random = np.random.default_rng(0)
    numeric = {f"n{i}": random.normal(size=20_000) for i in range(20)}
    kinds = {f"k{i}": pa.array(random.integers(0, 9, 20_000).astype(str)) for i in range(5)}
    reference = prepare(MemoryTable(numeric | kinds))
    segment = sketch_table(reference, MemoryTable(numeric | kinds))
    started = time.process_time()
    whole = Sketch(reference.layout)
    for _ in range(1000):
        whole.merge(segment)
    assert time.process_time() - started < 0.2  # 0.03 on a quiet machine
    assert whole.known("n0") == 20_000_000


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("parquet") / "rows.parquet"
    pq.write_table(pa.table(table(4, 4000)), file, row_group_size=500)
    return file


def test_every_kind_of_table_gives_the_same_sketch(parquet: Path) -> None:
    arrow = pq.read_table(parquet)
    expected = sketch_table(REFERENCE, open_table(arrow))
    tables: dict[str, Any] = {"path": parquet, "folder": parquet.parent, "pandas": arrow.to_pandas()}
    tables["dictionary"] = {name: arrow.column(name) for name in arrow.column_names}
    tables["polars"] = polars.from_arrow(arrow)
    tables["duckdb"] = duckdb.sql(f"select * from '{parquet}'")
    for name, data in tables.items():
        assert same(sketch_table(REFERENCE, open_table(data)), expected), name


def test_a_reference_larger_than_the_sample_counts_every_row(parquet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelyard.deliver.monitoring.reference.MOST_SAMPLED", 1000)
    sampled: Reference = prepare(open_table(parquet))
    assert sampled.sketch.rows == 4000
    assert sampled.sketch.mean("x") == pytest.approx(np.nanmean(pq.read_table(parquet).column("x").to_numpy()))


def test_a_file_six_times_as_long_needs_no_more_memory(tmp_path: Path) -> None:
    peaks: list[int] = []
    for groups in (4, 24):
        file = tmp_path / f"{groups}.parquet"
        part = pa.table({"x": np.random.default_rng(groups).normal(size=300_000)})
        with pq.ParquetWriter(file, part.schema) as writer:
            for _ in range(groups):
                writer.write_table(part)
        command = [sys.executable, "-m", "modelyard", "monitor", "report", "--reference", file, "--current", file]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = status
        assert status == 0
        peaks.append(used.ru_maxrss)
    assert peaks[1] < peaks[0] + 16_000  # KiB; the longer column has 38 MB more
