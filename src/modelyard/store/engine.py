"""Engines for SQLite and PostgreSQL, with the settings that our promises need."""

from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url

from modelyard.domain.errors import ConfigError

Durability = Literal["process", "power"]
"""`process`: an acknowledged write survives kill -9; `power`: it survives a power cut (one fsync a commit group)."""


def make_engines(url: str, durability: Durability = "process") -> tuple[Engine, Engine]:
    """The engines for writing and for reading; the same one where the database has many writers.

    Raises ConfigError for a database that we do not support.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        return _sqlite(url, durability, writes=True), _sqlite(url, durability, writes=False)
    if parsed.get_backend_name() == "postgresql":
        engine = create_engine(parsed.set(drivername="postgresql+psycopg"), pool_size=8, pool_pre_ping=True)
        return engine, engine
    raise ConfigError(
        f"The database {parsed.get_backend_name()!r} is not supported.",
        remedy="Use sqlite:///path or postgresql://user@host/name.",
    )


def _sqlite(url: str, durability: Durability, *, writes: bool) -> Engine:
    size: dict[str, Any] = {"pool_size": 1, "max_overflow": 0} if writes else {"pool_size": 8, "max_overflow": 8}
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 30}, **size)

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
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
