"""Fill the SQLite stores of modelyard and MLflow with the same runs, straight into their tables."""

import random
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path

from modelyard.kit.batches import batches

PART = 2000
METRICS = PARAMS = 20


def _runs(count: int) -> Iterator[tuple[int, str, list[float], list[str]]]:
    """(number, id, metrics, params) of each run; the same for both."""
    chance = random.Random(7)
    for number in range(count):
        values = [chance.random() for _ in range(METRICS)]
        yield (
            number,
            uuid.UUID(int=chance.getrandbits(128)).hex,
            values,
            [str(chance.randrange(10)) for _ in range(PARAMS)],
        )


def _many(db: sqlite3.Connection, table: str, columns: str, rows: list[tuple]) -> None:
    marks = ",".join("?" for _ in columns.split(","))
    db.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)


def modelyard(database: Path, experiment: int, count: int) -> None:
    with sqlite3.connect(database, timeout=60) as db:
        first = (db.execute("SELECT max(num) FROM runs").fetchone()[0] or 0) + 1
        for part in batches(_runs(count), PART):
            nums = [first + number for number, *_ in part]
            columns = "num,id,experiment_id,name,user_id,author,status,lifecycle,started_at"
            info = [
                (first + n, key, experiment, f"run-{n}", "", "owner", "RUNNING", "active", 1_000_000 + n)
                for n, key, *_ in part
            ]
            _many(db, "runs", columns, info)
            tags = [(first + n, "mlflow.runName", f"run-{n}") for n, *_ in part]
            _many(db, "run_tags", "run,key,value", tags)
            params = [(num, f"p{i}", v) for num, run in zip(nums, part, strict=True) for i, v in enumerate(run[3])]
            _many(db, "run_params", "run,key,value", params)
            points = [
                (num, f"m{i}", v, 0, 0, 1) for num, run in zip(nums, part, strict=True) for i, v in enumerate(run[2])
            ]
            for table in ("metric_points", "latest_metrics"):
                _many(db, table, "run,key,value,is_nan,step,time", points)
            db.commit()


def mlflow(database: Path, experiment: int, count: int) -> None:
    with sqlite3.connect(database, timeout=60) as db:
        for part in batches(_runs(count), PART):
            columns = (
                "run_uuid,name,source_type,source_name,entry_point_name,user_id,status,start_time,source_version,"
                "lifecycle_stage,artifact_uri,experiment_id"
            )
            info = [
                (
                    key,
                    f"run-{n}",
                    "UNKNOWN",
                    "",
                    "",
                    "",
                    "RUNNING",
                    1_000_000 + n,
                    "",
                    "active",
                    "mlflow-artifacts:/x",
                )
                for n, key, *_ in part
            ]
            _many(db, "runs", columns, [(*row, experiment) for row in info])
            _many(db, "tags", "key,value,run_uuid", [("mlflow.runName", f"run-{n}", key) for n, key, *_ in part])
            params = [(f"p{i}", v, key) for _, key, _, held in part for i, v in enumerate(held)]
            _many(db, "params", "key,value,run_uuid", params)
            points = [(f"m{i}", v, 1, 0, 0, key) for _, key, held, _ in part for i, v in enumerate(held)]
            for table in ("metrics", "latest_metrics"):
                _many(db, table, "key,value,timestamp,step,is_nan,run_uuid", points)
            db.commit()
