"""Batch prediction over database tables, by SQLAlchemy's URLs, and by DuckDB's own library.

`postgresql://host/db?table=flights&partition=day`: each value of the partition's column is an input of its own. A
table is read in the order of its primary key (or of `order`), so that a part holds the same rows in the next run.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from modelyard.deliver.serving.batch_csv import REMEDY, Looked
from modelyard.deliver.serving.batch_files import Source
from modelyard.domain.errors import Invalid, MissingExtra
from modelyard.kit.hashing import digest_json

KINDS = ("sqlite", "postgresql", "mysql", "mariadb", "oracle", "mssql", "duckdb")
DRIVERS = {"postgresql": ("psycopg",)}
ASKED = ("table", "partition", "order", "version")
"""Taken out of the URL's query; what else is there is the driver's."""
BATCH_ROWS = 10_000
VARIABLE = re.compile(r"\$\{(\w+)\}")


def is_table(pattern: str) -> bool:
    return pattern.partition("://")[0].partition("+")[0] in KINDS and "://" in pattern


def needed(pattern: str) -> tuple[str, ...]:
    """The packages that reading a table takes, without the drivers that modelyard does not name."""
    if not is_table(pattern):
        return ()
    kind = pattern.partition("://")[0]
    return ("duckdb",) if kind == "duckdb" else ("sqlalchemy", *DRIVERS.get(kind, ()))


@dataclass(frozen=True)
class TableRows:
    """A table of a database. `url` keeps its `${NAME}`s: they are filled in when a connection is made.

    partition, order: columns; version: the caller's word for the table's content, to say that rows changed in place.
    """

    url: str
    table: str
    partition: str = ""
    order: str = ""
    version: str = ""

    def find(self, pattern: str) -> list[Source]:
        """One input for the table, or for each value of its partition's column. Raises Invalid."""
        with _opened(self) as database:
            found = database.partitions()
        return [self._source(value, *told) for value, *told in found]

    def _source(self, value: Any, count: int, first: Any, last: Any) -> Source:
        """first, last: of the column that orders the rows; with the count they tell whether the table grew."""
        name = self.table if not self.partition else f"{self.partition}={quote(_text(value), safe='')}/{self.table}"
        known = [VARIABLE.sub("", self.url), name, count, _text(first), _text(last), self.version]
        return Source(name, f"{name}.table", digest_json(known))

    def in_one_go(self, source: Source) -> bool:
        return True

    def look(self, source: Source, types: dict[str, str], *, skip: bool) -> Looked:
        with _opened(self) as database:
            counts = {self._source(value, *told).name: told[0] for value, *told in database.partitions()}
        return Looked(source, int(counts.get(source.name, 0)))

    def batches(self, source: Source, start: int) -> Iterator[Any]:
        with _opened(self) as database:
            values = [
                value for value, *told in database.partitions() if self._source(value, *told).name == source.name
            ]
            if values:
                yield from database.batches(values[0], start)


def _text(value: Any) -> str:
    return "" if value is None else value.isoformat() if hasattr(value, "isoformat") else str(value)


def parse(url: str) -> TableRows:
    """Raises Invalid for a URL without a table, or with a password that is written out."""
    head, _, query = url.partition("?")
    given = parse_qsl(query, keep_blank_values=True)
    asked = {name: value for name, value in given if name in ASKED}
    if not asked.get("table"):
        raise Invalid(f"{head} names no table.", remedy=f"Add it: '{head}?table=flights'.")
    user = head.partition("://")[2].rpartition("@")[0]
    if ":" in user and not user.partition(":")[2].startswith("${"):
        raise Invalid(
            "The URL holds a password, which others on this machine can read in the list of processes.",
            remedy="Put it into an environment variable: 'postgresql://me:${DB_PASSWORD}@host/db?table=flights'.",
        )
    rest = urlencode([(name, value) for name, value in given if name not in ASKED], safe="${}/:")
    return TableRows(f"{head}?{rest}" if rest else head, **asked)


def _filled(url: str) -> str:
    missing = [name for name in VARIABLE.findall(url) if name not in os.environ]
    if missing:
        raise Invalid(f"{url} names the environment variable {missing[0]}, which is not set.", remedy="Set it.")
    return VARIABLE.sub(lambda found: quote(os.environ[found[1]], safe=""), url)


def _opened(rows: TableRows) -> Any:
    return _DuckDb(rows) if rows.url.startswith("duckdb:") else _SqlAlchemy(rows)


class _SqlAlchemy:
    """One connection; a `with` closes it."""

    def __init__(self, rows: TableRows) -> None:
        from sqlalchemy import MetaData, Table, create_engine  # late: files need none of it
        from sqlalchemy.exc import NoSuchTableError, SQLAlchemyError

        url = re.sub(r"^postgresql://", "postgresql+psycopg://", _filled(rows.url))
        schema, _, name = rows.table.rpartition(".")
        if rows.url.startswith("sqlite:///") and not os.path.exists(rows.url.removeprefix("sqlite:///")):
            raise Invalid(
                f"There is no database {rows.url}.", remedy="Check the path; an absolute one has four slashes."
            )
        try:
            self._engine = create_engine(url)
            self._table = Table(name, MetaData(), schema=schema or None, autoload_with=self._engine)
        except NoSuchTableError:
            raise Invalid(f"The database has no table {rows.table!r}.", remedy="Check its name.") from None
        except ModuleNotFoundError as error:
            raise Invalid(
                f"The database needs the driver {error.name}, which is not installed.",
                remedy="Install it: pip install "
                + ("'modelyard[postgres]'" if error.name == "psycopg" else str(error.name)),
            ) from error
        except SQLAlchemyError as error:
            raise _failed(error) from error
        self._partition = self._column(rows.partition) if rows.partition else None
        self._order = [self._column(rows.order)] if rows.order else list(self._table.primary_key)
        if not self._order:
            raise Invalid(
                f"The table {rows.table} has no primary key, so its rows have no order that lasts.",
                remedy="Add &order=COLUMN, one whose values are unique.",
            )

    def __enter__(self) -> "_SqlAlchemy":
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.dispose()

    def _column(self, name: str) -> Any:
        if name not in self._table.c:
            raise Invalid(
                f"The table {self._table.name} has no column {name!r}.",
                remedy=f"It has: {', '.join(self._table.c.keys())}.",
            )
        return self._table.c[name]

    def partitions(self) -> list[tuple[Any, ...]]:
        """(value, rows, first and last of the column that orders them) of each partition, or of the table."""
        from sqlalchemy import func, null, select  # late: see above
        from sqlalchemy.exc import SQLAlchemyError

        key = null() if self._partition is None else self._partition
        query = select(key, func.count(), func.min(self._order[0]), func.max(self._order[0])).select_from(self._table)
        if self._partition is not None:
            query = query.group_by(self._partition).order_by(self._partition)
        try:
            with self._engine.connect() as conn:
                return [tuple(row) for row in conn.execute(query)]
        except SQLAlchemyError as error:
            raise _failed(error) from error

    def batches(self, value: Any, start: int) -> Iterator[Any]:
        from sqlalchemy import select  # late: see above
        from sqlalchemy.exc import SQLAlchemyError

        query = select(self._table).order_by(*self._order)
        if self._partition is not None:
            query = query.where(self._partition.is_(None) if value is None else self._partition == value)
        if start:
            query = query.offset(start).limit(2**62)  # SQLite takes no offset alone
        schema = self._schema()
        try:
            with self._engine.connect() as conn:
                streamed = conn.execution_options(stream_results=True, yield_per=BATCH_ROWS)
                for rows in streamed.execute(query).partitions():
                    yield _record_batch(self._table.name, schema, rows, start)
                    start += len(rows)
        except SQLAlchemyError as error:
            raise _failed(error) from error

    def _schema(self) -> Any:
        import pyarrow as pa  # late: see above
        from sqlalchemy import types

        kinds: list[tuple[Any, Any]] = [
            (types.Boolean, pa.bool_()), (types.Integer, pa.int64()), (types.Float, pa.float64()),
            (types.Numeric, pa.float64()),
            (types.DateTime, pa.timestamp("us")), (types.Date, pa.date32()),
        ]  # fmt: skip
        return pa.schema(
            [
                (column.name, next((kind for asked, kind in kinds if isinstance(column.type, asked)), pa.string()))
                for column in self._table.c
            ]
        )


def _record_batch(table: str, schema: Any, rows: Any, start: int) -> Any:
    """Rows of a result as Arrow, `start` of the table's before them; decimals become floats, unknown types text.

    Raises Invalid for a value that is not of its column's type, which SQLite keeps.
    """
    import pyarrow as pa  # late: see above

    columns: list[Any] = []
    for field, values in zip(schema, zip(*rows, strict=True), strict=True):
        kind = {pa.float64(): float, pa.string(): str}.get(field.type)
        try:
            columns.append(_array(values, field.type, kind))
        except (ValueError, TypeError):  # what Arrow raises is among them
            row = next(number for number, value in enumerate(values) if not _is(value, field.type, kind))
            where = f"{table}, row {start + row + 1}: column {field.name!r}"
            raise Invalid(
                f"{where} is of type {field.type} and holds {values[row]!r:.42}.",
                remedy=REMEDY,
            ) from None
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _array(values: Any, kind: Any, convert: Any) -> Any:
    import pyarrow as pa  # late: see above

    given = values if convert is None else [None if value is None else convert(value) for value in values]
    return pa.array(given, kind)


def _is(value: Any, kind: Any, convert: Any) -> bool:
    try:
        _array([value], kind, convert)
    except (ValueError, TypeError):
        return False
    return True


def _failed(error: Exception) -> Invalid:
    said = getattr(error, "orig", None) or error
    return Invalid(f"The database refuses: {str(said).splitlines()[0]}", remedy="Check the URL and the table.")


class _DuckDb:
    """One connection that only reads; a `with` closes it."""

    def __init__(self, rows: TableRows) -> None:
        try:
            import duckdb  # late: an extra
        except ImportError as error:
            raise MissingExtra("duckdb", "duckdb", "Reading DuckDB") from error
        self._error: type[Exception] = duckdb.Error
        self._rows = rows
        path = _filled(rows.url).removeprefix("duckdb://").removeprefix("/")
        if not os.path.exists(path):
            raise Invalid(
                f"There is no database {rows.url}.", remedy="Check the path; an absolute one has four slashes."
            )
        try:
            self._conn = duckdb.connect(path, read_only=True)
            columns = self._conn.execute(f"SELECT * FROM {_quoted(rows.table)} LIMIT 0").description or []
        except duckdb.Error as error:
            raise _failed(error) from error
        names = [column[0] for column in columns]
        for name in (rows.partition, rows.order):
            if name and name not in names:
                raise Invalid(
                    f"The table {rows.table} has no column {name!r}.", remedy=f"It has: {', '.join(names)}."
                )
        self._order = rows.order or "rowid"

    def __enter__(self) -> "_DuckDb":
        return self

    def __exit__(self, *_: object) -> None:
        self._conn.close()

    def partitions(self) -> list[tuple[Any, ...]]:
        key = _quoted(self._rows.partition) if self._rows.partition else "NULL"
        order = _quoted(self._order)
        sql = f"SELECT {key}, count(*), min({order}), max({order}) FROM {_quoted(self._rows.table)}"
        grouped = f" GROUP BY {key} ORDER BY {key}" if self._rows.partition else ""
        return self._conn.execute(sql + grouped).fetchall()

    def batches(self, value: Any, start: int) -> Iterator[Any]:
        where = f" WHERE {_quoted(self._rows.partition)} IS NOT DISTINCT FROM ?" if self._rows.partition else ""
        sql = f"SELECT * FROM {_quoted(self._rows.table)}{where} ORDER BY {_quoted(self._order)} OFFSET {start}"
        try:
            found: Any = self._conn.sql(sql, params=[value] if where else None)
            # DuckDB 1 has the one, DuckDB 2 the other
            yield from (found.to_arrow_reader if hasattr(found, "to_arrow_reader") else found.fetch_record_batch)(
                BATCH_ROWS
            )
        except self._error as error:
            raise _failed(error) from error


def _quoted(name: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))
