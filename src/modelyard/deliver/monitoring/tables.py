"""Any table, column by column in chunks: pandas, polars, Arrow, dictionaries of arrays, DuckDB relations, Parquet."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from modelyard.domain.errors import Invalid, NotFound

BATCH = 65_536


class Table(Protocol):
    """A table that is read one column at a time, so that one column (or one chunk of it) is in memory."""

    @property
    def names(self) -> list[str]: ...

    @property
    def rows(self) -> int: ...

    def chunks(self, name: str) -> Iterator[Any]: ...


@dataclass(frozen=True)
class MemoryTable:
    """Columns that are in memory already: numpy, pandas or Arrow arrays of one length."""

    columns: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        return list(self.columns)

    @property
    def rows(self) -> int:
        return max((len(values) for values in self.columns.values()), default=0)

    def chunks(self, name: str) -> Iterator[Any]:
        yield self.columns[name]


class ParquetTable:
    """Parquet files, decoded in batches of BATCH rows of one column: files larger than memory are fine."""

    def __init__(self, paths: list[Path]) -> None:
        import pyarrow.parquet as pq  # late: tables in memory need no Parquet

        self._files = [pq.ParquetFile(path, pre_buffer=False) for path in paths]
        self.names: list[str] = self._files[0].schema_arrow.names
        self.rows: int = sum(file.metadata.num_rows for file in self._files)

    def chunks(self, name: str) -> Iterator[Any]:
        for file in self._files:
            for batch in file.iter_batches(batch_size=BATCH, columns=[name], use_threads=False):
                yield batch.column(0)


class RelationTable:
    """A DuckDB relation: one projection a column, fetched in batches."""

    def __init__(self, relation: Any) -> None:
        self._relation = relation
        self.names: list[str] = list(relation.columns)
        self.rows: int = int(relation.aggregate("count(*)").fetchall()[0][0])

    def chunks(self, name: str) -> Iterator[Any]:
        quoted = '"' + name.replace('"', '""') + '"'
        for batch in self._relation.project(quoted).to_arrow_reader(BATCH):
            yield batch.column(0)


def open_table(data: Any) -> Table:
    """The table that `data` holds: a frame, an Arrow table, a mapping of arrays, a DuckDB relation, or a path.

    A path names a Parquet file or a folder of them. Raises NotFound for a path without, Invalid for
    anything else.
    """
    if isinstance(data, MemoryTable | ParquetTable | RelationTable):
        return data
    if isinstance(data, str | Path):
        return ParquetTable(_parquet_files(Path(data)))
    if isinstance(data, Mapping):
        return MemoryTable(data)
    if hasattr(data, "to_arrow_reader") and hasattr(data, "project"):
        return RelationTable(data)
    if hasattr(data, "column_names") and hasattr(data, "column"):
        return MemoryTable({name: data.column(name) for name in data.column_names})
    if hasattr(data, "to_arrow") and hasattr(data, "schema"):
        return open_table(data.to_arrow())
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        return MemoryTable({str(name): data[name] for name in data.columns})
    raise Invalid(
        f"{type(data).__name__} is not a table that can be compared.",
        remedy="Pass a pandas or polars frame, an Arrow table, a DuckDB relation, arrays by name, or a Parquet path.",
    )


def _parquet_files(path: Path) -> list[Path]:
    found = sorted(path.glob("**/*.parquet")) if path.is_dir() else [path]
    if not found or not found[0].exists():
        raise NotFound(f"There is no Parquet file at {path}.", remedy="Name a .parquet file or a folder of them.")
    return found


def head(table: Table, name: str) -> Any:
    """A column's first chunk; None for a table without rows."""
    return next(table.chunks(name), None)
