"""Any table, column by column in chunks: pandas, polars, Arrow, dictionaries of arrays, DuckDB relations, Parquet."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from modelyard.domain.errors import Invalid, NotFound

BATCH = 65_536
BUFFER = 2**20
"""Bytes of a file that are read at once."""
FEW_BYTES = 2
"""A column of text with fewer bytes a value than this has few distinct values."""
MOST_THREADS = 4
"""Columns of files that are read at once: Arrow and numpy leave the interpreter to the other threads meanwhile."""

Found = TypeVar("Found")


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
    """Parquet files, decoded in batches of BATCH rows of one column: files larger than memory are fine.

    Each reading opens its file anew, so that several columns may be read at once.
    """

    def __init__(self, paths: list[Path]) -> None:
        import pyarrow.parquet as pq  # late: tables in memory need no Parquet

        with pq.ParquetFile(paths[0]) as first:
            self.names: list[str] = first.schema_arrow.names
        metadata = [pq.read_metadata(path) for path in paths]
        self.rows: int = sum(held.num_rows for held in metadata)
        self._files = [(path, held, _repeating(held)) for path, held in zip(paths, metadata, strict=True)]

    def chunks(self, name: str) -> Iterator[Any]:
        import pyarrow.parquet as pq  # late: see __init__

        for path, metadata, repeating in self._files:
            encoded = [name] if name in repeating else None
            about: dict[str, Any] = {"metadata": metadata, "read_dictionary": encoded, "buffer_size": BUFFER}
            with pq.ParquetFile(path, pre_buffer=False, **about) as file:
                for batch in file.iter_batches(batch_size=BATCH, columns=[name], use_threads=False):
                    yield batch.column(0)


def _repeating(metadata: Any) -> set[str]:
    """The columns of text that the file keeps as numbers of few distinct values: read so, they take a fourth."""
    if not metadata.num_row_groups:
        return set()
    group = metadata.row_group(0)
    columns = [group.column(at) for at in range(group.num_columns)]
    return {
        column.path_in_schema
        for at, column in enumerate(columns)
        if column.has_dictionary_page
        and column.total_uncompressed_size < FEW_BYTES * column.num_values
        and metadata.schema.column(at).logical_type.type == "STRING"
    }


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


def by_column(table: Table, names: Sequence[str], work: Callable[[str], Found]) -> list[Found]:
    """What `work` finds of each column, in order; of files some columns at once, each in memory by itself."""
    threads = min(MOST_THREADS, os.cpu_count() or 1, len(names)) if isinstance(table, ParquetTable) else 1
    if threads < 2:
        return [work(name) for name in names]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, names))


def head(table: Table, name: str) -> Any:
    """A column's first chunk; None for a table without rows."""
    return next(table.chunks(name), None)
