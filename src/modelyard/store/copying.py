"""A database as one moment saw it, in a SQLite file of its own; and back into SQLite or PostgreSQL."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, create_engine, func, select, text
from sqlalchemy.engine import make_url

from modelyard.kit.batches import batches
from modelyard.kit.files import sync_folder
from modelyard.store import schema
from modelyard.store.engine import make_engines
from modelyard.store.tables import metadata

PART = 5000


def snapshot(url: str, target: Path) -> None:
    """Copy the database at `url` into a new SQLite file, while others write to it."""
    source = make_url(url)
    if source.get_backend_name() != "sqlite":
        writes, reads = make_engines(url)
        engine = create_engine(f"sqlite:///{target}")
        schema.create(engine)
        with reads.connect() as here, engine.begin() as there:
            fill(here, there)
        for used in (writes, reads, engine):
            used.dispose()
        return
    with closing(sqlite3.connect(f"file:{source.database}?mode=ro", uri=True)) as here:
        with closing(sqlite3.connect(target)) as there:
            here.backup(there)
            there.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it


def replace(url: str, file: Path) -> None:
    """Make the database at `url` what the SQLite file holds; its former content is gone."""
    target = make_url(url)
    if target.get_backend_name() == "sqlite":
        _replace_file(Path(target.database or ""), file)
        return
    writes, reads = make_engines(url)
    schema.ensure(writes, url)
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as here, writes.begin() as there:
        for table in reversed(metadata.sorted_tables):
            there.execute(table.delete())
        fill(here, there)
        _continue_numbers(there)
    for used in (writes, reads, engine):
        used.dispose()


def fill(here: Connection, there: Connection) -> None:
    """Copy every row of one connection's tables into another's empty ones."""
    for table in metadata.sorted_tables:
        rows = here.execution_options(yield_per=PART).execute(select(table)).mappings()
        for part in batches(rows, PART):
            there.execute(table.insert(), [dict(row) for row in part])


def counts(conn: Connection) -> dict[str, int]:
    """How many rows each table has."""
    return {
        table.name: conn.execute(select(func.count()).select_from(table)).scalar_one()
        for table in metadata.sorted_tables
    }


def _replace_file(target: Path, file: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.restored")
    shutil.copyfile(file, beside)
    with beside.open("rb+") as stream:
        os.fsync(stream.fileno())
    for suffix in ("-wal", "-shm"):  # of the former file: they would be played into the new one
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    os.replace(beside, target)
    sync_folder(target.parent)


def _continue_numbers(conn: Connection) -> None:
    """PostgreSQL's own counters go on after the copied numbers."""
    for table in metadata.sorted_tables:
        column = table.autoincrement_column
        if column is not None:
            names = {"table": table.name, "column": column.name}
            last = f"(SELECT coalesce(max({column.name}), 0) + 1 FROM {table.name})"
            conn.execute(text(f"SELECT setval(pg_get_serial_sequence(:table, :column), {last}, false)"), names)
