"""Engines for SQLite and PostgreSQL, with the settings that our promises need."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from modelyard.domain.errors import ConfigError, MissingExtra

Durability = Literal["process", "power"]
"""`process`: an acknowledged write survives kill -9; `power`: it survives a power cut (one fsync a commit group)."""
WRITE_LOCK = 7_217_001
"""PostgreSQL advisory lock: one write transaction at a time, as in SQLite (docs/adr/0070)."""


def make_engines(url: str, durability: Durability = "process") -> tuple[Engine, Engine]:
    """The engines for writing and for reading; reads see one snapshot and cannot write.

    Raises ConfigError for a database that we do not support, MissingExtra without PostgreSQL's driver.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(f"{url[:100]!r} is not a database URL.", remedy=_URLS) from error
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        return _sqlite(url, durability, writes=True), _sqlite(url, durability, writes=False)
    if parsed.get_backend_name() == "postgresql":
        return _postgresql(parsed)
    raise ConfigError(f"The database {parsed.get_backend_name()!r} is not supported.", remedy=_URLS)


_URLS = "Use sqlite:////path/to/file.db or postgresql://user@host/name."


def make_brief_engine(url: str, durability: Durability) -> Engine | None:
    """The engine of brief writes (`store.brief`), which never waits for a lock; None where they do not apply."""
    if not url.startswith("sqlite") or durability == "power":
        return None
    engine = _sqlite(url, durability, writes=True, wait_s=0)

    @event.listens_for(engine, "connect")
    def leave_checkpoints(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA wal_autocheckpoint=0")  # they have a thread of their own

    return engine


def _sqlite(url: str, durability: Durability, *, writes: bool, wait_s: float = 30) -> Engine:
    size: dict[str, Any] = {"pool_size": 1, "max_overflow": 0} if writes else {"pool_size": 8, "max_overflow": 8}
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": wait_s}, **size)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, so that a write locks at once
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA synchronous={'FULL' if durability == 'power' else 'NORMAL'}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA cache_size=-16000")
        if not writes:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        if not connection.connection.driver_connection.in_transaction:  # brief works have begun it themselves
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(url: URL) -> tuple[Engine, Engine]:
    if find_spec("psycopg") is None:
        raise MissingExtra("psycopg", "postgres", "A PostgreSQL database")
    url = url.set(drivername="postgresql+psycopg")
    connect = {"connect_timeout": 10, "options": "-c timezone=UTC"}
    writes = create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True, connect_args=connect)
    reads = create_engine(
        url,
        pool_size=8,
        max_overflow=8,
        pool_pre_ping=True,
        isolation_level="REPEATABLE READ",
        connect_args={**connect, "options": "-c timezone=UTC -c default_transaction_read_only=on"},
    )

    @event.listens_for(writes, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")

    return writes, reads
