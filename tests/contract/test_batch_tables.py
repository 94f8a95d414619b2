"""Batch prediction reads the same rows from SQLite and from PostgreSQL."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from modelyard.deliver.deployments.batch_inputs import reader, writer
from modelyard.deliver.serving import batch
from tests.unit.deliver.serving.conftest import numeric_model

TABLE = """CREATE TABLE flights (id INTEGER PRIMARY KEY, a REAL, b DOUBLE PRECISION, c NUMERIC(20, 15), d INTEGER,
    day DATE, at TIMESTAMP, open BOOLEAN, note TEXT)"""


def test_a_table_by_its_days(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch):
    model, rows = numeric_model(tmp_path / "m")
    engine = sa.create_engine(database.replace("postgresql:", "postgresql+psycopg:"))
    number = np.arange(len(rows))
    day = pd.Timestamp("2026-03-01") + pd.to_timedelta(number // 120, "D")
    more = {"day": day.date, "at": day, "open": number % 2 == 0, "note": np.where(number % 3, "x", None)}
    frame = rows.astype({"a": "float32"}).assign(d=rows["d"].round().astype(int), **more).reset_index(names="id")
    with engine.begin() as conn:
        conn.execute(sa.text(TABLE))
        frame.to_sql("flights", conn, if_exists="append", index=False)
    engine.dispose()
    monkeypatch.setenv("DATABASE_USER", "yard")
    url = database.replace("yard@", "${DATABASE_USER}@") + "?table=flights&partition=day"
    done = batch.run(tmp_path / "m", url, writer(str(tmp_path / "out")), 2, lambda *_: None, 50, reader(url))
    assert (done.rows, done.parts, done.kept) == (200, 5, 0)
    parts = sorted((tmp_path / "out").rglob("*.parquet"))
    assert {part.parent.name for part in parts} == {"day=2026-03-01", "day=2026-03-02"}
    found = pd.concat([pq.ParquetFile(part).read().to_pandas() for part in parts], ignore_index=True)
    assert found["id"].tolist() == frame["id"].tolist()
    assert found["note"].tolist() == frame["note"].tolist() and found["open"].tolist() == frame["open"].tolist()
    assert found["at"].tolist() == frame["at"].tolist() and found["day"].tolist() == frame["day"].tolist()
    np.testing.assert_allclose(found[["a", "b", "c", "d"]], frame[["a", "b", "c", "d"]], rtol=1e-6, atol=1e-14)
    expected = model.predict_proba(found[["a", "b", "c", "d"]])
    np.testing.assert_allclose(found[["prediction_0", "prediction_1"]], expected, rtol=1e-12)
    again = batch.run(tmp_path / "m", url, writer(str(tmp_path / "out")), 1, lambda *_: None, 50, reader(url))
    assert (again.rows, again.parts, again.kept) == (0, 0, 5)
