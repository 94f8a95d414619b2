"""`compare_data`: what it finds, what it promises of false alarms, and its reports in every format."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import modelyard
from modelyard.deliver.monitoring import data_quality
from modelyard.deliver.monitoring.comparison import Comparison, compare_data, compare_prepared
from modelyard.deliver.monitoring.data_quality import Constraint
from modelyard.deliver.monitoring.reference import prepare, prepare_with_windows
from modelyard.deliver.monitoring.tables import MemoryTable
from modelyard.domain import contracts
from modelyard.domain.errors import ConfigError, Invalid, NotFound


def rows(seed: int, count: int, shift: float = 0.0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    found: dict[str, Any] = {f"n{i}": random.normal(shift * (i == 0), 1, count) for i in range(20)}
    names = np.array(["a", "b", "c", "d"])
    return found | {f"c{i}": pa.array(names[random.integers(0, 4, count)]) for i in range(5)}


@pytest.mark.parametrize(("window", "reference"), [(500, 5000), (2000, 10_000), (500, 20_000)])
def test_unchanged_data_seldom_alarms(window: int, reference: int) -> None:
    before = prepare_with_windows(MemoryTable(rows(0, reference)), window)
    found = [compare_prepared(before, rows(seed, window), reference) for seed in range(1, 21)]
    assert sum(bool(comparison.drifted) for comparison in found) <= 1


def test_a_shift_of_a_fifth_of_a_deviation_is_found_in_two_thirds_of_small_windows() -> None:
    before = prepare(MemoryTable(rows(0, 5000)))
    found = [compare_prepared(before, rows(seed, 500, shift=0.2), 5000).drifted for seed in range(1, 16)]
    assert sum("n0" in drifted for drifted in found) >= 10


def test_rows_that_share_their_day_do_not_alarm_where_the_reference_has_windows() -> None:
    random = np.random.default_rng(0)

    def days(count: int) -> dict[str, Any]:
        weather = np.repeat(random.normal(0, 1, count), 300)
        return {"temp": weather + random.normal(0, 0.3, len(weather)), "hour": random.uniform(0, 24, len(weather))}

    before = prepare_with_windows(MemoryTable(days(60)), 300)
    alarms = sum(bool(compare_prepared(before, days(1), 18_000).drifted) for _ in range(20))
    assert alarms <= 3


def test_the_reference_that_is_too_short_is_called_uncalibrated() -> None:
    found = compare_data(rows(0, 5000), rows(1, 1000))
    assert not found.calibrated and "Uncalibrated" in found.html()
    assert compare_data(rows(0, 20_000), rows(1, 500)).calibrated


@pytest.fixture(scope="module")
def failed() -> Comparison:
    return compare_data(rows(0, 5000), rows(1, 1000, shift=1.0), columns_share=0.01)


def test_a_failed_comparison_names_the_column_in_every_format(failed: Comparison, tmp_path: Path) -> None:
    assert not failed.passed and failed.drifted == ["n0"]
    page = failed.save(tmp_path / "report.html").read_text()
    assert "n0" in page and page.count("<svg") == 25 and len(page) < 1_000_000 and "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    found = json.loads(failed.save(tmp_path / "report.json").read_text())
    assert found["passed"] is False and found["drifted"] == ["n0"]
    suite = ElementTree.parse(failed.save(tmp_path / "report.xml")).getroot()
    assert suite.get("failures") == "1"
    assert [case.get("name") for case in suite if case.find("failure") is not None] == ["n0"]


def test_another_suffix_is_refused(failed: Comparison, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"\.html"):
        failed.save(tmp_path / "report.pdf")


def test_names_from_outside_are_text_in_the_page() -> None:
    evil = "<script>alert(1)</script>"
    page = compare_data({evil: np.arange(100.0)}, {evil: np.arange(100.0) + 500}).html()
    assert "<script" not in page


def test_the_name_is_exported() -> None:
    assert modelyard.compare_data is compare_data


def test_what_is_no_table_or_empty_is_said(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="not a table"):
        compare_data([1, 2], {"x": np.arange(3.0)})
    with pytest.raises(Invalid, match="no rows"):
        compare_data({"x": np.arange(3.0)}, {"x": np.array([])})
    with pytest.raises(NotFound, match="no Parquet file"):
        compare_data(tmp_path / "nothing.parquet", {"x": np.arange(3.0)})


def test_text_time_and_embeddings_are_compared_by_what_describes_them() -> None:
    random = np.random.default_rng(0)

    def table(words: int, hour: int, direction: float) -> dict[str, Any]:
        texts = [" ".join(random.choice(["late", "early", "gate", str(n)], words)) + f" {n}" for n in range(400)]
        times = np.datetime64("2026-01-01T00:00") + random.integers(0, 6, 400) * np.timedelta64(60, "m")
        times = times + np.timedelta64(hour * 60, "m")
        vectors = random.normal(direction, 1, (400, 16))
        return {
            "note": pa.array(texts),
            "at": pa.array(times.astype("datetime64[ms]")),
            "vector": pa.array(vectors.tolist()),
        }

    same = compare_data(table(5, 0, 0), table(5, 0, 0))
    assert same.drifted == []
    moved = set(compare_data(table(5, 0, 0), table(15, 12, 1)).drifted)
    assert {"note.length", "note.words", "at.hour", "vector.norm"} <= moved


def test_joint_drift_that_no_column_shows_is_found_and_explained() -> None:
    random = np.random.default_rng(0)

    def pair(sign: int) -> dict[str, Any]:
        first = random.normal(size=3000)
        other = sign * first + random.normal(0, 0.3, 3000)
        return {"a": first, "b": other, "c": random.normal(size=3000)}

    found = compare_data(pair(1), pair(-1), joint=True)
    assert found.drifted == [] and found.joint is not None
    assert found.joint["low"] > 0.8 and {item["column"] for item in found.joint["columns"][:2]} == {"a", "b"}
    assert compare_data(pair(1), pair(1), joint=True).joint["low"] < 0.55  # type: ignore[index]


REFERENCE = prepare(MemoryTable({"age": np.linspace(18, 80, 1000), "kind": pa.array(["a", "b"] * 500)}))


def check(columns: dict[str, Any], constraints: dict[str, Constraint] | None = None) -> list[str]:
    from modelyard.deliver.monitoring.reference import sketch_table

    table = MemoryTable(columns)
    found = data_quality.check(REFERENCE, sketch_table(REFERENCE, table), table, constraints)
    return [f"{finding.column} {finding.check}" for finding in found]


KINDS = pa.array(["a", "b"] * 150)
BROKEN = [
    ({"kind": KINDS}, ["age schema"]),
    ({"age": pa.array(["x"] * 300), "kind": KINDS}, ["age type"]),
    ({"age": np.full(300, 500.0), "kind": KINDS}, ["age range"]),
    ({"age": np.full(300, np.nan), "kind": KINDS}, ["age largely missing"]),
    (
        {"age": np.full(300, 20.0), "kind": pa.array(["a"] * 280 + ["z"] * 20)},
        ["kind new categories", "kind vanished"],
    ),
    ({"age": np.full(300, 20.0), "kind": KINDS}, []),
]


@pytest.mark.parametrize(("columns", "expected"), BROKEN)
def test_broken_promises_are_found(columns: dict[str, Any], expected: list[str]) -> None:
    found = check(columns)
    assert len(found) == len(expected)
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True))


def test_suggested_constraints_are_edited_as_toml_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "constraints.toml"
    file.write_text(contracts.write(data_quality.suggest(REFERENCE)))
    read = data_quality.read(file)
    assert read == data_quality.suggest(REFERENCE)
    assert read["age"].min == pytest.approx(11.8) and read["kind"].categories == ["a", "b"]
    file.write_text(file.read_text().replace("max = 86.2", "max = 50"))
    assert check({"age": np.full(300, 60.0), "kind": KINDS}, data_quality.read(file)) == ["age range"]


def test_a_wrong_constraints_file_names_its_key(tmp_path: Path) -> None:
    file = tmp_path / "constraints.toml"
    file.write_text('[age]\nkind = "numeric"\nmaximum = 3\n')
    with pytest.raises(ConfigError, match="maximum"):
        data_quality.read(file)
    with pytest.raises(ConfigError, match="does not exist"):
        data_quality.read(tmp_path / "absent.toml")


def test_a_report_on_files_loads_neither_pandas_nor_a_model_library(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"x": pa.array([None, *range(400)], pa.float64()), "n": pa.array(range(401))}
    pq.write_table(pa.table({**columns, "c": ["a", "b c d"] * 200 + [None]}), tmp_path / "t.parquet")
    asked = f"""
import sys, modelyard
found = modelyard.compare_data({str(tmp_path / "t.parquet")!r}, {str(tmp_path / "t.parquet")!r})
assert len(found.columns) == 3 and found.passed and found.html()
print([name for name in ("pandas", "scipy", "sklearn", "matplotlib", "river") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
