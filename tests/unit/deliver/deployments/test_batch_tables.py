"""Tables of databases in, predictions out; stopped and gone on with."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from modelyard.deliver.deployments.batch_inputs import reader, writer
from modelyard.deliver.serving import batch
from modelyard.domain.errors import Invalid
from tests.unit.deliver.serving.conftest import numeric_model

Execute = Callable[[str], None]


def quiet(done: int, total: int) -> None:
    assert 0 <= done <= total


def flights(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.reset_index(names="id").assign(day=np.where(np.arange(len(rows)) < 120, "2026-03-01", "2026-03-02"))


@pytest.fixture(params=["sqlite", "duckdb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, str, Execute]]:
    """(the model, the URL of a database whose table `flights` has 200 rows, what executes SQL there)."""
    model, rows = numeric_model(tmp_path / "m")
    frame = flights(rows)
    if request.param == "duckdb":
        file = tmp_path / "flights.duckdb"

        def execute(sql: str) -> None:
            with duckdb.connect(str(file)) as conn:
                conn.execute(sql)

        with duckdb.connect(str(file)) as conn:
            conn.register("frame", frame)
            conn.execute("CREATE TABLE flights AS SELECT * FROM frame")
        yield model, f"duckdb:///{file}", execute
        return
    engine = sa.create_engine(f"sqlite:///{tmp_path}/flights.db")

    def execute(sql: str) -> None:
        with engine.begin() as conn:
            conn.execute(sa.text(sql))

    execute("CREATE TABLE flights (id INTEGER PRIMARY KEY, a REAL, b REAL, c REAL, d NUMERIC, day TEXT)")
    frame.to_sql("flights", engine, if_exists="append", index=False)
    yield model, f"sqlite:///{tmp_path}/flights.db", execute
    engine.dispose()


def predicted(tmp_path: Path, url: str, rows: int = 50) -> tuple[int, int, int]:
    done = batch.run(tmp_path / "m", url, writer(str(tmp_path / "out")), 1, quiet, rows=rows, inputs=reader(url))
    return done.rows, done.parts, done.kept


def test_a_table_becomes_parts_which_are_not_done_twice(tmp_path: Path, database: tuple[Any, str, Execute]):
    model, url, _ = database
    url += "?table=flights&order=id"
    assert predicted(tmp_path, url) == (200, 4, 0)
    found = pd.concat([pq.read_table(file).to_pandas() for file in sorted((tmp_path / "out").iterdir())])
    assert found["id"].tolist() == list(range(200))
    expected = model.predict_proba(found[["a", "b", "c", "d"]])
    np.testing.assert_allclose(found[["prediction_0", "prediction_1"]], expected, rtol=1e-12)
    (tmp_path / "out" / "flights-00002.parquet").unlink()
    assert predicted(tmp_path, url) == (50, 1, 3)
    assert predicted(tmp_path, f"{url}&version=2") == (200, 4, 0), "its caller says that rows changed"


def test_partitions_are_inputs_of_their_own(tmp_path: Path, database: tuple[Any, str, Execute]):
    _, url, execute = database
    url += "?table=flights&partition=day&order=id"
    assert predicted(tmp_path, url, rows=100) == (200, 3, 0)
    parts = sorted(str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*.parquet"))
    assert parts == [f"day=2026-03-0{day}/flights-0000{part}.parquet" for day, part in ((1, 0), (1, 1), (2, 0))]
    execute("INSERT INTO flights (id, a, b, c, d, day) VALUES (200, 0, 0, 0, 0, '2026-03-02')")
    execute("INSERT INTO flights (id, a, b, c, d, day) VALUES (201, 0, 0, 0, 0, '2026-03-03')")
    assert predicted(tmp_path, url, rows=100) == (82, 2, 2), "the day that grew, and the new one"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("", "names no table"),
        ("?table=nothing", "nothing"),
        ("?table=flights&order=nothing", "The table flights has no column 'nothing'"),
        ("?table=flights&partition=nothing", "The table flights has no column 'nothing'"),
    ],
)
def test_what_is_not_there_is_said(tmp_path: Path, database: tuple[Any, str, Execute], more: str, says: str):
    with pytest.raises(Invalid, match=says):
        predicted(tmp_path, database[1] + more)


def test_a_cell_that_does_not_fit_names_the_column(tmp_path: Path, database: tuple[Any, str, Execute]):
    _, url, execute = database
    execute("ALTER TABLE flights RENAME COLUMN d TO e")
    with pytest.raises(Invalid, match=r"flights: Missing column\(s\): d"):
        predicted(tmp_path, url + "?table=flights&order=id")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://me:secret@host/db?table=flights", "holds a password"),
        ("postgresql://me:${NO_SUCH_VARIABLE}@host/db?table=flights", "NO_SUCH_VARIABLE, which is not set"),
        ("sqlite:///nowhere.db?table=flights", "There is no database"),
        ("duckdb:///nowhere.db?table=flights", "There is no database"),
        ("mssql+nodriver://host/db?table=flights", "refuses"),
        ("gopher://host/x", "gopher:// cannot be read"),
    ],
)
def test_a_url_that_leads_nowhere(tmp_path: Path, url: str, says: str):
    with pytest.raises(Invalid, match=says):
        reader(url).find(url)


def test_by_command_on_several_processes(tmp_path: Path, database: tuple[Any, str, Execute]):
    _, url, _ = database
    command = [sys.executable, "-m", "modelyard", "predict", str(tmp_path / "m"), "--workers", "2"]
    command += ["--input", f"{url}?table=flights&partition=day&order=id", "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"rows": 200, "parts": 2, "kept": 0, "output": str(tmp_path / "out")}


def test_a_value_that_sqlite_keeps_although_it_is_of_another_type(tmp_path: Path):
    numeric_model(tmp_path / "m")
    with sqlite3.connect(tmp_path / "air.db") as db:
        db.execute("CREATE TABLE flights (id INTEGER PRIMARY KEY, a REAL, b REAL, c REAL, d REAL)")
        db.executemany(
            "INSERT INTO flights VALUES (?, 1, 2, 3, ?)", [(n, "far" if n == 7 else n) for n in range(1, 9)]
        )
    db.close()
    with pytest.raises(Invalid, match=r"flights, row 7: column 'd' is of type double and holds 'far'"):
        predicted(tmp_path, f"sqlite:///{tmp_path / 'air.db'}?table=flights")
