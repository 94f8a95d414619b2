"""Reading: every format, many files as one, object storage, databases; what is read is recorded."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from modelyard import steps
from modelyard.build.pipelines import recorder
from modelyard.build.pipelines.evaluation import frame_digest
from modelyard.domain.errors import Invalid, NotFound
from modelyard.steps import reading
from tests.contract.s3server import start_s3

ROWS = pd.DataFrame({"n": [1, 2, 3], "x": [0.5, None, 1.5], "name": ["a", "b", "ü"]})
WRITERS: dict[str, Callable[[Path], Any]] = {
    ".csv": lambda path: ROWS.to_csv(path, index=False),
    ".csv.gz": lambda path: ROWS.to_csv(path, index=False),
    ".tsv": lambda path: ROWS.to_csv(path, index=False, sep="\t"),
    ".parquet": lambda path: ROWS.to_parquet(path),
    ".arrow": lambda path: ROWS.to_feather(path),
    ".jsonl": lambda path: ROWS.to_json(path, orient="records", lines=True),
}


@pytest.fixture
def recorded() -> Iterator[recorder.Recorder]:
    noted = recorder.Recorder()
    token = recorder.current.set(noted)
    yield noted
    recorder.current.reset(token)


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str, recorded: recorder.Recorder):
    path = tmp_path / f"rows{suffix}"
    WRITERS[suffix](path)
    found = steps.read(str(path))
    pd.testing.assert_frame_equal(found, ROWS)
    (dataset,) = recorded.datasets
    assert dataset["digest"] == frame_digest(ROWS) and dataset["rows"] == 3
    assert dataset["columns"] == {"n": "long", "x": "double", "name": "string"}
    pd.testing.assert_frame_equal(steps.read(str(path), columns=["n"]), ROWS[["n"]])


def test_patterns_folders_and_lists_are_read_in_the_order_of_names(tmp_path: Path):
    for name in ("b", "a"):
        ROWS.assign(name=name).to_csv(tmp_path / f"{name}.csv", index=False)
    (tmp_path / "notes.txt").write_text("no table")
    for source in (str(tmp_path), f"{tmp_path}/*.csv", [f"{tmp_path}/a.csv", f"{tmp_path}/b.csv"]):
        assert steps.read(source)["name"].tolist() == ["a"] * 3 + ["b"] * 3


def test_files_of_other_columns_are_refused(tmp_path: Path):
    ROWS.to_csv(tmp_path / "a.csv", index=False)
    ROWS.rename(columns={"x": "y"}).to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(Invalid, match="other columns: x, y"):
        steps.read(str(tmp_path))
    assert len(steps.read(str(tmp_path), columns=["n"])) == 6


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [("none.csv", None, NotFound), ("rows.xlsx", b"x", Invalid), ("torn.parquet", b"PAR1x", Invalid)],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str, content: bytes | None, error: type[Exception]):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=name):
        steps.read(str(tmp_path / name))


def test_a_file_that_changed_has_another_state(tmp_path: Path):
    path = tmp_path / "rows.csv"
    ROWS.to_csv(path, index=False)
    before = reading._found(str(path))
    assert before == reading._found(str(path))
    ROWS.head(2).to_csv(path, index=False)
    assert before != reading._found(str(path))


def test_objects_are_read_by_pattern(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    server = start_s3(tmp_path)
    try:
        for key, value in server.environment.items():
            monkeypatch.setenv(key, value)
        bucket = server.new_bucket()
        for name in ("b", "a"):
            server.put(bucket, f"in/{name}.csv", ROWS.assign(name=name).to_csv(index=False).encode())
        for source in (f"s3://{bucket}/in/*.csv", f"s3://{bucket}/in/"):
            assert steps.read(source)["name"].tolist() == ["a"] * 3 + ["b"] * 3
        before = reading._found(f"s3://{bucket}/in/a.csv")
        server.put(bucket, "in/a.csv", b"n\n1\n")
        assert before != reading._found(f"s3://{bucket}/in/a.csv")
        with pytest.raises(NotFound):
            steps.read(f"s3://{bucket}/out/*.csv")
    finally:
        server.process.kill()
        server.process.wait()


def test_a_database_is_asked_with_values(tmp_path: Path, recorded: recorder.Recorder):
    with sqlite3.connect(tmp_path / "rows.db") as conn:
        ROWS.to_sql("rows", conn, index=False)
    found = steps.query(f"sqlite:///{tmp_path}/rows.db", "SELECT n FROM rows WHERE n > :least", {"least": 1})
    assert found["n"].tolist() == [2, 3]
    assert recorded.datasets[0]["source"].endswith("WHERE n > :least")
    with pytest.raises(Invalid, match="no such table"):
        steps.query(f"sqlite:///{tmp_path}/rows.db", "SELECT * FROM others")
    with pytest.raises(Invalid, match="answers no rows"):
        steps.query(f"sqlite:///{tmp_path}/rows.db", "SELECT * FROM rows WHERE n > 9")


def test_a_password_stays_out_of_the_record(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(Invalid, match="environment variable"):
        steps.query("postgresql+psycopg://me:secret@host/db", "SELECT 1")
    with pytest.raises(Invalid, match="that is not set"):
        steps.query("postgresql+psycopg://me:${NOT_SET_ANYWHERE}@host/db", "SELECT 1")


def test_duckdb_asks_files(tmp_path: Path):
    pytest.importorskip("duckdb")
    ROWS.to_parquet(tmp_path / "rows.parquet")
    found = steps.query("duckdb://", f"SELECT max(n) AS most FROM '{tmp_path}/*.parquet' WHERE n < $top", {"top": 3})
    assert found["most"].tolist() == [2]
    with pytest.raises(Invalid, match="The query failed"):
        steps.query("duckdb://", "SELECT * FROM nothing")
