"""Batch prediction by a model's own libraries: from buckets, tables and files; rows set aside; killed and gone on."""

import json
import os
import signal
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from modelyard.deliver.deployments import batch_inputs
from modelyard.kit.processes import descendants
from tests.conftest import wait_until
from tests.contract.postgres import running_cluster
from tests.contract.s3server import start_s3
from tests.unit.deliver.deployments.house import running
from tests.unit.deliver.deployments.shelf import greeting, own, repacked

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
READING = ("pyarrow", "obstore", "sqlalchemy", "psycopg", "psycopg-binary", "duckdb", "typing-extensions", "greenlet")
GATED = '''
import os
import time


class Greet:
    """Answers the version of its library; for an x of 2 once the gate is there."""

    def predict(self, rows):
        import greeter

        values = rows["x"] if hasattr(rows, "columns") else rows[:, 0]
        while 2 in list(values) and not os.path.exists({gate!r}):
            time.sleep(0.01)
        return [greeter.VERSION] * len(rows)
'''


@pytest.fixture
def folder(shelf: Path, tmp_path: Path) -> Path:
    """A folder with a model that answers 1.0, by a library that only its own environment has."""
    for name in READING:
        repacked(shelf, name)
    greeting(tmp_path / "model", "greeter==1.0\nnumpy\n")
    return tmp_path


def predicted(folder: Path, pattern: str, *more: str, output: str = "out") -> dict[str, int]:
    """What the command says, its errors aside."""
    command = ("predict", "model", "--input", pattern, "--output", output, "--workers", "2", *more)
    said, _ = own(folder, *command).communicate(timeout=300)
    assert "environment of its own: greeter==1.0, here none" in said and "Traceback" not in said, said
    assert "{" in said, said
    return json.loads(said[said.index("{") :])


def test_from_one_bucket_to_another_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3 = start_s3(folder)
    try:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        bucket = s3.new_bucket()
        rows = pd.DataFrame({"x": [1.0, 2.0]})
        rows.to_parquet(folder / "rows.parquet")
        s3.put(bucket, "in/d=1/rows.parquet", (folder / "rows.parquet").read_bytes())
        s3.put(bucket, "in/d=2/rows.csv", b"x\n3\nfar\n")
        places = (f"s3://{bucket}/in/**/rows.*", "--set-aside", f"s3://{bucket}/aside")
        done = predicted(folder, *places, output=f"s3://{bucket}/out")
        assert (done["rows"], done["parts"], done["set_aside"]) == (3, 2, 1)
        place = batch_inputs.writer(f"s3://{bucket}/out")
        found = pq.read_table(place.open("d=2/rows-00000.parquet"))
        assert found.column("x").to_pylist() == [3.0] and found.column("prediction").to_pylist() == [1.0]
        assert b"found text 'far'" in s3.get(bucket, "aside/d=2/rows-00000.csv")["Body"].read()
        again = predicted(folder, *places, output=f"s3://{bucket}/out")
        assert (again["rows"], again["kept"], again["set_aside"]) == (0, 2, 1)
    finally:
        s3.process.terminate()
        s3.process.wait(20)


@contextmanager
def database(folder: Path, kind: str) -> Generator[str]:
    """The URL of a table `flights` of three rows in two partitions, one of them without an x."""
    table = "CREATE TABLE flights (id INTEGER PRIMARY KEY, x DOUBLE PRECISION, day TEXT)"
    rows = "INSERT INTO flights VALUES (1, 1.5, 'mon'), (2, NULL, 'mon'), (3, 2.5, 'tue')"
    if kind == "sqlite":
        with sqlite3.connect(folder / "air.db") as db:
            db.execute(table)
            db.execute(rows)
        db.close()
        yield "sqlite:///air.db"
    elif kind == "duckdb":
        import duckdb

        with duckdb.connect(str(folder / "air.duckdb")) as db:
            db.execute(table)
            db.execute(rows)
        yield "duckdb:///air.duckdb"
    else:
        import psycopg

        with running_cluster() as cluster:
            url = cluster.new_database()
            with psycopg.connect(url, autocommit=True) as link:
                link.execute(table.encode())
                link.execute(rows.encode())
            yield url.replace("yard@", "yard:${AIR_PASSWORD}@")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "duckdb"])
def test_tables_by_their_partitions(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIR_PASSWORD", "trusted")
    with database(folder, kind) as url:
        done = predicted(folder, f"{url}?table=flights&partition=day&order=id")
    assert (done["rows"], done["parts"]) == (3, 2)
    found = pq.ParquetFile(folder / "out" / "day=mon" / "flights-00000.parquet").read()
    assert found.column("id").to_pylist() == [1, 2] and found.column("prediction").to_pylist() == [1.0, 1.0]


def test_killed_and_gone_on_with(folder: Path) -> None:
    gate = folder / "gate"
    (folder / "model" / "code" / "greet.py").write_text(GATED.format(gate=str(gate)))
    for number in range(12):
        (folder / f"{number:02}.csv").write_text(f"x\n{1 if number < 2 else 2}\n")
    process = own(folder, "predict", "model", "--input", "*.csv", "--output", "out", "--workers", "2")
    wait_until(lambda: len(list((folder / "out").glob("*.parquet"))) >= 2, "two parts", 300)
    children = descendants(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert len(children) >= 2
    wait_until(lambda: not any(running(pid) for pid in children), "its processes to end")
    assert len(list((folder / "out").glob("*.parquet"))) == 2
    gate.touch()
    done = predicted(folder, "*.csv")
    assert (done["kept"], done["parts"]) == (2, 10)
