"""Rows of each category: the same however Arrow or a file keeps them."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.deliver.monitoring import categories
from modelyard.deliver.monitoring.comparison import compare_data
from modelyard.deliver.monitoring.reference import prepare, prepare_with_windows, sketch_table
from modelyard.deliver.monitoring.tables import ParquetTable, open_table
from modelyard.domain.contracts import Constraint
from modelyard.domain.errors import Invalid

TEXTS = st.lists(st.one_of(st.none(), st.sampled_from(["a", "bb", "", "two words more"])), max_size=40)


@settings(deadline=None)
@given(TEXTS, st.integers(0, 5), st.booleans())
def test_counts_are_those_of_the_values(texts: list[str | None], offset: int, encoded: bool) -> None:
    array = pa.array(texts, pa.string())
    array = (array.dictionary_encode() if encoded else array).slice(offset)
    kept = texts[offset:]
    assert categories.category_counts(array) == dict(Counter(kept))
    assert categories.category_counts(pa.chunked_array([array, array])) == {
        k: 2 * n for k, n in Counter(kept).items()
    }


def test_a_missing_value_may_stand_in_the_dictionary_too() -> None:
    array = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 1], pa.int8()), pa.array(["a", None]))
    assert categories.codes(array).tolist() == [0, 1, -1, 1]
    assert categories.category_counts(array) == {"a": 1, None: 3}


def table(rows: int) -> Any:
    random = np.random.default_rng(4)
    kinds = np.array(["x", "yy", None, "rare"], dtype=object)[random.choice(4, rows, p=[0.5, 0.3, 0.199, 0.001])]
    named = [f"name {n}" for n in random.integers(0, rows, rows)]
    return pa.table({"n": random.normal(size=rows), "kind": pa.array(kinds, pa.string()), "name": named})


def test_files_are_counted_as_memory_is(tmp_path: Path) -> None:
    held = table(200_000)
    pq.write_table(held, tmp_path / "held.parquet", row_group_size=70_000)
    kept = next(open_table(tmp_path / "held.parquet").chunks("kind"))
    assert pa.types.is_dictionary(kept.type)
    in_memory, on_disk = prepare(open_table(held)), prepare(open_table(tmp_path / "held.parquet"))
    assert in_memory.kinds == on_disk.kinds == {"n": "numeric", "kind": "categorical", "name": "text"}
    for found in (on_disk.sketch, sketch_table(in_memory, open_table(tmp_path / "held.parquet"))):
        assert np.array_equal(found.counts, in_memory.sketch.counts) and found.new == in_memory.sketch.new
        assert found.measures == pytest.approx(in_memory.sketch.measures, abs=1e-6)
    windows = [prepare_with_windows(open_table(at), 5000).thresholds for at in (held, tmp_path / "held.parquet")]
    assert windows[0] is not None and windows[1] is not None
    assert windows[0].by_column["kind"] == pytest.approx(windows[1].by_column["kind"])


def test_what_cannot_be_compared_is_said_by_whichever_thread_meets_it(tmp_path: Path) -> None:
    held = table(100).append_column("picture", pa.array([b"png"] * 100))
    pq.write_table(held, tmp_path / "held.parquet")
    assert isinstance(open_table(tmp_path / "held.parquet"), ParquetTable)
    with pytest.raises(Invalid, match="picture holds bytes"):
        prepare(open_table(tmp_path / "held.parquet"))


def test_repeated_values_are_counted_over_all_chunks(tmp_path: Path) -> None:
    held = pa.table({"id": pa.array([*range(100_000), *range(50_000), None, None]), "kind": ["a", "b"] * 75_001})
    pq.write_table(held, tmp_path / "held.parquet")
    promised = {"id": Constraint("numeric", unique=True), "kind": Constraint("categorical")}
    for source in (held, tmp_path / "held.parquet", held.to_pandas()):
        compared = compare_data(source, source, constraints=promised)
        assert [finding.message for finding in compared.findings] == ["id: 33.3% of the rows repeat an earlier value"]
