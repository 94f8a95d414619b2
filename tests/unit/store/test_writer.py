"""The group-committing writer: all or nothing for each work, in order, durable when it answers."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from modelyard.domain.errors import Unavailable
from modelyard.events import log
from modelyard.store.database import Store
from modelyard.store.tables.events import events


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'yard.db'}")
    yield opened
    opened.close()


def count(conn: Connection) -> int:
    return conn.execute(select(func.count()).select_from(events)).scalar_one()


def test_one_failing_work_does_not_take_its_group_with_it(store: Store) -> None:
    blocked, go = threading.Event(), threading.Event()

    def hold(conn: Connection) -> None:
        blocked.set()
        assert go.wait(10)

    def good(conn: Connection) -> str:
        return log.append(conn, "run.created", "run/1", "ana").id

    def bad(conn: Connection) -> None:
        log.append(conn, "run.created", "run/2", "ana")
        raise ValueError("no")

    holding = store._writer.submit(hold)
    assert blocked.wait(10)
    answers = [store._writer.submit(work) for work in (good, bad, good)]
    go.set()
    holding.result(10)
    assert answers[0].result(10) != answers[2].result(10)
    with pytest.raises(ValueError, match="no"):
        answers[1].result(10)
    assert store.read_now(count) == 2


def test_many_threads_lose_nothing(store: Store) -> None:
    def write(name: str) -> None:
        for _ in range(20):
            store.write_now(lambda conn: log.append(conn, "run.created", f"run/{name}", name))

    threads = [threading.Thread(target=write, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read_now(count) == 160


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'yard.db'}")
    store.close()
    with pytest.raises(Unavailable):
        store.write_now(count)


def test_readers_cannot_write(store: Store) -> None:
    from sqlalchemy.exc import OperationalError

    with pytest.raises(OperationalError, match="readonly"):
        store.read_now(lambda conn: log.append(conn, "run.created", "run/1", "ana"))
