"""Statements of the hot path: built with SQLAlchemy Core, compiled once, run on the driver's own cursor."""

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from operator import itemgetter
from typing import Any, cast

from sqlalchemy import ClauseElement, Connection
from sqlalchemy.exc import DBAPIError


class Statement:
    """One Core statement with named parameters, the same for every database.

    Running it costs the driver's own price, a tenth of what `Connection.execute` takes for a single row; in return
    rows are plain tuples and values pass unconverted, so it is for text and numbers only.
    """

    def __init__(self, built: ClauseElement) -> None:
        self._built = built
        self._compiled: dict[str, tuple[str, Sequence[str] | None]] = {}

    def run(self, conn: Connection, values: dict[str, Any]) -> Any:
        """The driver's cursor after running once."""
        text, order = self._text(conn)
        driver: Any = conn.connection.driver_connection  # both drivers' connections execute by themselves
        try:
            return driver.execute(text, [values[name] for name in order] if order is not None else values)
        except _driver(conn).Error as error:
            raise _told(conn, text, error) from error

    def many(self, conn: Connection, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Run once for each of `rows`, whose values stand in the order of `names`."""
        text, order = self._text(conn)
        bound: Any = rows
        if order is None:
            bound = [dict(zip(names, row, strict=True)) for row in rows]
        elif list(order) != list(names):
            bound = list(map(itemgetter(*(names.index(name) for name in order)), rows))
        try:
            conn.connection.cursor().executemany(text, bound)
        except _driver(conn).Error as error:
            raise _told(conn, text, error) from error

    def first(self, conn: Connection, values: dict[str, Any]) -> Any:
        """The first row as a tuple; None when there is none."""
        return self.run(conn, values).fetchone()

    def all(self, conn: Connection, values: dict[str, Any]) -> list[Any]:
        return self.run(conn, values).fetchall()

    def _text(self, conn: Connection) -> tuple[str, Sequence[str] | None]:
        known = self._compiled.get(conn.dialect.name)
        if known is None:
            compiled: Any = self._built.compile(dialect=conn.dialect)
            order = list(compiled.positiontup) if compiled.positional else None
            known = self._compiled[conn.dialect.name] = (str(compiled), order)
        return known


def _driver(conn: Connection) -> Any:
    return conn.dialect.loaded_dbapi


def _told(conn: Connection, text: str, error: Any) -> DBAPIError:
    """The driver's error as SQLAlchemy tells it, so that a full disk or a lost connection is met in one way."""
    lost = conn.dialect.is_disconnect(error, None, None)
    if lost:
        conn.invalidate(error)
    base, told = _driver(conn).Error, DBAPIError.instance
    return cast(DBAPIError, told(text, None, error, base, connection_invalidated=lost, dialect=conn.dialect))


class PerDialect:
    """A statement that is written differently for SQLite and PostgreSQL (`INSERT ... ON CONFLICT`).

    `build` gets the dialect's module from SQLAlchemy, of the database in use only: the other's takes 60 ms to load.
    """

    def __init__(self, build: Callable[[Any], ClauseElement]) -> None:
        self._build = build
        self._known: dict[str, Statement] = {}

    def on(self, conn: Connection) -> Statement:
        name = conn.dialect.name
        if name not in self._known:
            self._known[name] = Statement(self._build(dialect_of(conn)))
        return self._known[name]


def dialect_of(conn: Connection) -> Any:
    """SQLAlchemy's module of the connection's dialect, with its own `insert`."""
    return import_module(f"sqlalchemy.dialects.{conn.dialect.name}")


def rows_of(conn: Connection, text: str) -> Iterable[Any]:
    """Every row of a query whose only values are integers already written into it, one at a time."""
    cursor: Any = conn.connection.cursor()  # an iterator of its rows in both drivers
    cursor.execute(text)
    return cursor
