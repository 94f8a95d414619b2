"""Pipelines started by new objects in a bucket, as by new files."""

from pathlib import Path

from modelyard.build.schedules import by_data, clock, starts
from modelyard.domain.project import parse_project
from modelyard.store.database import Store
from tests.contract.s3server import S3Server


def test_each_object_that_arrives_starts_once(store: Store, s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.new_bucket()
    made = parse_project(
        '[project]\nname = "t"\n[pipelines.p]\npipeline = "pipeline.py:main"\nparams = { f = "{files}" }\n'
        f'on_data = {{ path = "s3://{bucket}/in/*.csv" }}\n'
    )
    declared = made.pipelines["p"]
    assert declared.on_data is not None
    wanted = declared.on_data
    store.write_now(lambda conn: clock.declare(conn, made))

    def look() -> list[str]:
        before = store.read_now(lambda conn: by_data.known(conn, "p"))
        seen = by_data.look(tmp_path, wanted, before)
        return store.write_now(lambda conn: by_data.take_in(conn, "p", declared, seen))

    s3.put(bucket, "in/old.csv", b"1")
    assert look() == [], "what is there at first is known"
    s3.put(bucket, "in/a.csv", b"1")
    s3.put(bucket, "in/notes.txt", b"1")
    assert look() == [f"s3://{bucket}/in/a.csv"]
    s3.put(bucket, "in/a.csv", b"1")
    assert look() == [], "the same content again"
    s3.put(bucket, "in/a.csv", b"other")
    assert look() == [f"s3://{bucket}/in/a.csv"]
    asked = store.read_now(lambda conn: starts.newest(conn, "p"))
    assert [start.params["f"] for start in asked] == [f"s3://{bucket}/in/a.csv"] * 2
