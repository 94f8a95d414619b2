"""What the store promises on either database: groups, order, snapshots, the schema's guard."""

import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from modelyard.domain.errors import ConfigError, Unavailable
from modelyard.events import audit, jobs, log, schedules
from modelyard.events.dispatch import Dispatcher
from modelyard.store import schema
from modelyard.store.database import Store
from modelyard.store.engine import make_engines
from modelyard.store.tables.events import events
from modelyard.store.tables.identity import principals
from tests.contract.postgres import Cluster

Open = Callable[[], Store]


def count(conn: Connection) -> int:
    return conn.execute(select(func.count()).select_from(events)).scalar_one()


def note(name: str) -> Callable[[Connection], log.Event]:
    return lambda conn: log.append(conn, "run.created", f"run/{name}", name)


class Held:
    """Keeps the writer busy, so that what is submitted meanwhile becomes one group."""

    def __init__(self, store: Store) -> None:
        self._go = threading.Event()
        started = threading.Event()

        def work(conn: Connection) -> None:
            started.set()
            assert self._go.wait(20)

        self._future = store._writer.submit(work)
        assert started.wait(20)

    def release(self) -> None:
        self._go.set()
        self._future.result(20)


def test_a_failing_work_loses_only_itself(store: Store) -> None:
    held = Held(store)

    def twice(conn: Connection) -> None:
        row = {"name": "ana", "kind": "person", "roles": [], "created_at": 1, "created_by": "x", "disabled": False}
        conn.execute(insert(principals).values(row))
        conn.execute(insert(principals).values(row))

    answers = [store._writer.submit(work) for work in (note("a"), twice, note("b"))]
    held.release()
    assert answers[0].result(20).subject == "run/a"
    with pytest.raises(IntegrityError):
        answers[1].result(20)
    assert answers[2].result(20).subject == "run/b"
    assert store.read_now(count) == 2
    assert store.read_now(lambda conn: conn.execute(select(principals)).all()) == []


def test_a_cancelled_work_is_not_run_and_the_writer_lives(store: Store) -> None:
    held = Held(store)
    doomed, kept = store._writer.submit(note("a")), store._writer.submit(note("b"))
    assert doomed.cancel()
    held.release()
    assert kept.result(20).subject == "run/b"
    with pytest.raises(CancelledError):
        doomed.result(1)
    assert store.write_now(count) == 1


def test_readers_cannot_write(store: Store) -> None:
    with pytest.raises(DBAPIError, match=r"read-?only"):
        store.read_now(note("a"))


def test_a_read_sees_one_snapshot(store: Store) -> None:
    def read(conn: Connection) -> tuple[int, int]:
        before = count(conn)
        store.write_now(note("between"))
        return before, count(conn)

    assert store.read_now(read) == (0, 0)
    assert store.read_now(count) == 1


def test_two_openings_append_one_chain(open_store: Open) -> None:
    """Processes that append at the same time make one chain, each record after the one before."""
    stores = [open_store(), open_store(), open_store()]

    def write(store: Store, name: str) -> None:
        for _ in range(25):
            store.write_now(note(name))

    threads = [threading.Thread(target=write, args=(store, str(n))) for n, store in enumerate(stores * 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = stores[0].read_now(audit.verify)
    assert found.intact and found.records == 150


def test_read_then_write_is_not_overtaken_by_another_process(open_store: Open) -> None:
    """Counting up by reading first: every step of every process counts."""
    stores = [open_store(), open_store()]
    stores[0].write_now(lambda conn: schedules.put(conn, "counter", 1000.0, "none", {"n": 0}))

    def up(conn: Connection) -> None:
        table = schema.metadata.tables["schedules"]
        value = conn.execute(select(table.c.payload)).scalar_one()["n"]
        conn.execute(update(table).values(payload={"n": value + 1}))

    def climb(store: Store) -> None:
        for _ in range(30):
            store.write_now(up)

    threads = [threading.Thread(target=climb, args=(store,)) for store in stores * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    table = schema.metadata.tables["schedules"]
    assert stores[0].read_now(lambda conn: conn.execute(select(table.c.payload)).scalar_one()) == {"n": 120}


def test_each_job_is_claimed_once_whoever_asks(open_store: Open) -> None:
    stores = [open_store(), open_store()]
    wanted = {stores[0].write_now(lambda conn: jobs.enqueue(conn, "work", {})) for _ in range(40)}
    claimed: list[str] = []

    def claim(store: Store) -> None:
        while job := store.write_now(lambda conn: jobs.claim(conn, ["work"])):
            claimed.append(job.id)
            store.write_now(lambda conn, job=job: jobs.finish(conn, job.id))

    threads = [threading.Thread(target=claim, args=(store,)) for store in stores * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 40 and set(claimed) == wanted


def test_a_lapsed_lease_is_taken_over_and_a_renewed_one_is_not(store: Store) -> None:
    job_id = store.write_now(lambda conn: jobs.enqueue(conn, "work", {"n": 1}, run_after=1000))
    first = store.write_now(lambda conn: jobs.claim(conn, ["work"], now=2000))
    assert first is not None and first.id == job_id and first.attempts == 1
    assert store.write_now(lambda conn: jobs.claim(conn, ["work"], now=2000 + jobs.LEASE_MS - 1)) is None
    second = store.write_now(lambda conn: jobs.claim(conn, ["work"], now=2001 + jobs.LEASE_MS))
    assert second is not None and second.attempts == 2 and second.payload == {"n": 1}
    store.write_now(lambda conn: jobs.renew(conn, job_id))
    assert store.write_now(lambda conn: jobs.claim(conn, ["work"])) is None


def test_a_subscriber_is_handed_each_event_once_by_whoever_comes_first(open_store: Open) -> None:
    stores = [open_store(), open_store()]
    dispatcher = Dispatcher()
    dispatcher.subscribe(
        "ender",
        ["run.created"],
        lambda conn, event: void(log.append(conn, "run.ended", event.subject, "x", cause=event.id)),
    )
    for n in range(60):
        stores[0].write_now(note(str(n)))

    def run(store: Store) -> None:
        while store.read_now(lambda conn: dispatcher.behind(conn, "ender")):
            store.write_now(lambda conn: dispatcher.run_pending(conn, "ender"))

    threads = [threading.Thread(target=run, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended = stores[0].read_now(lambda conn: log.read(conn, types=["run.ended"]))
    assert [event.subject for event in ended] == [f"run/{n}" for n in range(60)]


def void(_: object) -> None:
    return None


def test_a_schedule_comes_due_once_for_all_processes(open_store: Open) -> None:
    stores = [open_store(), open_store()]
    stores[0].write_now(lambda conn: schedules.put(conn, "hourly", 3600.0, "work", {}))
    later = 10**14
    assert [store.write_now(lambda conn: schedules.enqueue_due(conn, now=later)) for store in stores] == [1, 0]


def test_two_first_openings_make_one_schema(database: str) -> None:
    """Servers that start together on an empty database do not trip over each other."""
    stores: list[Store] = []
    threads = [threading.Thread(target=lambda: stores.append(Store(database))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert len(stores) == 4
        assert stores[0].read_now(count) == 0
    finally:
        for store in stores:
            store.close()


def test_a_newer_schema_is_refused(open_store: Open) -> None:
    open_store().write_now(lambda conn: void(conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))))
    with pytest.raises(ConfigError, match="newer than this modelyard"):
        open_store()


def test_an_older_schema_on_postgresql_says_the_command(cluster: Cluster) -> None:
    url = cluster.new_database()
    store = Store(url)
    store.write_now(lambda conn: void(conn.execute(text("UPDATE alembic_version SET version_num = '0000'"))))
    store.close()
    with pytest.raises(ConfigError, match="modelyard db upgrade"):
        Store(url)


def test_a_lost_connection_is_told_and_the_next_write_works(cluster: Cluster) -> None:
    store = Store(cluster.new_database())
    held = threading.Event()

    def cut(conn: Connection) -> None:
        pid = conn.execute(text("SELECT pg_backend_pid()")).scalar_one()
        cluster.admin(f"SELECT pg_terminate_backend({pid})")
        held.set()
        conn.execute(text("SELECT 1"))

    try:
        with pytest.raises(Unavailable, match="may or may not"):
            store.write_now(cut)
        assert held.is_set()
        assert store.write_now(note("after")).subject == "run/after"
        assert store.read_now(audit.verify).records == 1
    finally:
        store.close()


@pytest.mark.parametrize("url", ["mysql://x/y", "no url at all", ""])
def test_an_unsupported_database_is_refused_in_words(url: str) -> None:
    with pytest.raises(ConfigError, match="postgresql://"):
        make_engines(url)


def broken(file: Path, kind: str) -> None:
    if kind == "noise":
        file.write_bytes(os.urandom(20_000))
    elif kind == "folder":
        file.mkdir()
    elif kind == "foreign":
        with closing(sqlite3.connect(file)) as other:
            other.execute("CREATE TABLE things (x)")
    else:
        Store(f"sqlite:///{file}").close()
        file.write_bytes(file.read_bytes()[:9000])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("noise", "file is not a database"),
        ("folder", "unable to open database file"),
        ("foreign", "another program's: it has the table 'things'"),
        ("cut", "malformed"),
    ],
)
def test_a_file_that_is_no_yard_is_refused_and_left_as_it_is(tmp_path: Path, kind: str, words: str) -> None:
    file = tmp_path / "yard.db"
    broken(file, kind)
    before = file.read_bytes() if file.is_file() else b""
    with pytest.raises(ConfigError, match=words):
        Store(f"sqlite:///{file}")
    assert not file.is_file() or file.read_bytes() == before or kind == "foreign"


def test_another_programs_postgresql_database_is_refused(cluster: Cluster) -> None:
    url = cluster.new_database()
    with psycopg.connect(url) as link:
        link.execute("CREATE TABLE alembic_version (version_num TEXT)")
    with pytest.raises(ConfigError, match="another program's"):
        Store(url)


def test_a_database_that_lacks_columns_of_its_schema_is_refused(tmp_path: Path, cluster: Cluster) -> None:
    file = tmp_path / "yard.db"
    Store(f"sqlite:///{file}").close()
    with closing(sqlite3.connect(file)) as link:
        link.execute("ALTER TABLE tokens RENAME COLUMN digest TO other")
        link.execute("ALTER TABLE endpoints DROP COLUMN hosting")
    with pytest.raises(ConfigError, match=r"schema \d+, and lacks endpoints\.hosting, tokens\.digest"):
        Store(f"sqlite:///{file}")
    url = cluster.new_database()
    Store(url).close()
    with psycopg.connect(url) as link:
        link.execute("ALTER TABLE endpoints DROP COLUMN hosting")
    with pytest.raises(ConfigError, match=r"lacks endpoints\.hosting"):
        Store(url)


def test_a_database_server_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(ConfigError, match="Check that the server runs") as told:
        Store("postgresql://yard:secret@127.0.0.1:1/yard")
    assert "127.0.0.1:1" in str(told.value) and "secret" not in str(told.value)
