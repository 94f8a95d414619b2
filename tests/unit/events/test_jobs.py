"""Jobs of a process that died go on at once, where that can be known; elsewhere their lease is awaited."""

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select, update

from modelyard.events import jobs
from modelyard.kit.processes import identity, is_gone
from modelyard.store.database import Store
from modelyard.store.tables.events import jobs as rows

SAY = "from modelyard.kit.processes import identity; print(identity(), flush=True); input()"


def store_with_job(tmp_path: Path, owner: str) -> Store:
    """A yard in which `owner` took a job a moment ago."""
    store = Store(f"sqlite:///{tmp_path / 'yard.db'}")
    store.write_now(lambda conn: jobs.enqueue(conn, "work", {}))
    store.write_now(lambda conn: jobs.claim(conn, ["work"]))
    store.write_now(lambda conn: conn.execute(update(rows).values(owner=owner)))
    return store


def test_the_job_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", SAY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    owner = process.stdout.readline().strip()
    store = store_with_job(tmp_path, owner)
    try:
        assert store.write_now(jobs.release_orphans) == 0
        process.kill()
        process.communicate()
        assert store.write_now(jobs.release_orphans) == 1
        taken = store.write_now(lambda conn: jobs.claim(conn, ["work"]))
        assert taken is not None and taken.attempts == 2
    finally:
        store.close()


@pytest.mark.parametrize("owner", ["", "another-boot/4026531836/1/1"])
def test_the_job_of_an_owner_that_cannot_be_asked_keeps_its_lease(tmp_path: Path, owner: str) -> None:
    store = store_with_job(tmp_path, owner)
    try:
        assert store.write_now(jobs.release_orphans) == 0
        assert store.write_now(lambda conn: jobs.claim(conn, ["work"])) is None
    finally:
        store.close()


def test_a_number_that_another_process_has_now_is_gone() -> None:
    machine, _, started = identity().rpartition("/")
    assert not is_gone(identity()) and is_gone(f"{machine}/{int(started) - 1}")


def test_jobs_that_ended_are_forgotten_and_the_others_stay(tmp_path: Path) -> None:
    store = store_with_job(tmp_path, "host:1:1")
    try:
        running = store.read_now(lambda conn: conn.execute(select(rows.c.id)).scalar_one())
        done, waiting, late = (store.write_now(lambda conn: jobs.enqueue(conn, "work", {})) for _ in range(3))
        store.write_now(lambda conn: jobs.finish(conn, done))
        store.write_now(lambda conn: jobs.finish(conn, late))
        store.write_now(lambda conn: conn.execute(update(rows).where(rows.c.id != late).values(run_after=1000)))
        assert store.write_now(lambda conn: jobs.forget(conn, 2000)) == 1
        left = store.read_now(lambda conn: set(conn.execute(select(rows.c.id)).scalars()))
        assert left == {running, waiting, late}
    finally:
        store.close()
