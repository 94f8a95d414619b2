"""Brief works: grouped by loop turn, all or nothing each, and they give way to whoever writes."""

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from modelyard.events import log
from modelyard.store.database import Store
from modelyard.store.tables.events import events
from tests.conftest import wait_until


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'yard.db'}")
    yield opened
    opened.close()


def count(conn: Connection) -> int:
    return conn.execute(select(func.count()).select_from(events)).scalar_one()


def good(conn: Connection) -> str:
    return log.append(conn, "run.created", "run/1", "ana").id


def bad(conn: Connection) -> None:
    log.append(conn, "run.created", "run/2", "ana")
    raise ValueError("no")


def test_one_failing_work_does_not_take_its_turn_with_it(store: Store) -> None:
    async def turn() -> list[object]:
        return await asyncio.gather(
            *(store.write_brief(work) for work in (good, bad, good)), store.write(good), return_exceptions=True
        )

    answers = asyncio.run(turn())
    assert isinstance(answers[1], ValueError)
    assert len({answers[0], answers[2], answers[3]}) == 3
    assert store.read_now(count) == 3


def test_reads_see_what_was_written_and_cannot_write(store: Store) -> None:
    async def both() -> int:
        await store.write_brief(good)
        with pytest.raises(Exception, match="readonly"):
            await store.read_brief(good)
        await store.write(good)
        return await store.read_brief(count)

    assert asyncio.run(both()) == 2


def test_a_lock_held_elsewhere_is_waited_for_beside_the_event_loop(store: Store, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "yard.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def write() -> int:
        waiting = asyncio.ensure_future(store.write_brief(good))
        for _ in range(5):
            await asyncio.sleep(0)
            assert await store.read_brief(count) == 0
        assert not waiting.done()
        other.execute("ROLLBACK")
        await waiting
        return await store.read_brief(count)

    assert asyncio.run(write()) == 1
    other.close()


def test_only_what_somebody_waits_for_wakes_subscribers(store: Store) -> None:
    woken: list[str] = []
    store.on_commit(lambda: woken.append("woken"))

    async def write() -> None:
        await store.write_brief(good)
        assert woken == []
        await store.write_brief(lambda conn: log.append(conn, "version.registered", "version/a/1", "ana"))
        assert woken == ["woken"]

    asyncio.run(write())


def test_what_was_committed_reaches_the_database_beside_the_event_loop(store: Store, tmp_path: Path) -> None:
    asyncio.run(store.write_brief(good))

    def arrived() -> bool:
        copy = tmp_path / "copy.db"  # without its log of writes
        shutil.copyfile(tmp_path / "yard.db", copy)
        with contextlib.closing(sqlite3.connect(copy)) as connection, contextlib.suppress(sqlite3.OperationalError):
            return connection.execute("SELECT count(*) FROM events").fetchone() == (1,)
        return False  # the table itself has not arrived

    wait_until(arrived, "the checkpoint")
