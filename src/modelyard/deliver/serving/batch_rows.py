"""Where batch prediction gets its rows: CSV and Parquet files, or what else has these few calls."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

from modelyard.deliver.serving import batch_csv
from modelyard.deliver.serving.batch_csv import Looked, unreadable
from modelyard.deliver.serving.batch_files import Files, Source
from modelyard.domain.errors import Invalid


class Rows(Protocol):
    """Objects of this kind cross into worker processes, so they hold names and no connection."""

    def find(self, pattern: str) -> list[Source]:
        """The inputs that match, by name."""
        ...

    def in_one_go(self, source: Source) -> bool:
        """Whether reading from the middle costs reading what is before it."""
        ...

    def look(self, source: Source, types: dict[str, str], *, skip: bool) -> Looked:
        """An input that was read once, or as much of it as tells its rows. Raises Invalid.

        types: of the model's columns; skip: pass over lines that are no rows.
        """
        ...

    def batches(self, source: Source, start: int) -> Iterator[Any]:
        """Record batches of an input from a row on. Raises Invalid."""
        ...


@dataclass(frozen=True)
class FileRows:
    """CSV and Parquet files of a place."""

    files: Files

    def find(self, pattern: str) -> list[Source]:
        return self.files.find(pattern)

    def in_one_go(self, source: Source) -> bool:
        return _is_csv(source)

    def look(self, source: Source, types: dict[str, str], *, skip: bool) -> Looked:
        if _is_csv(source):
            return batch_csv.look(source, lambda: self.files.open(source.name), types, skip=skip)
        return Looked(source, self._groups(source)[-1])

    def batches(self, source: Source, start: int) -> Iterator[Any]:
        """Of Parquet, the row groups before the one that holds `start` are not read."""
        import pyarrow as pa  # late: only batch prediction and readers need it
        import pyarrow.parquet as pq

        try:
            with closing(self.files.open(source.name)) as stream:
                if _is_csv(source):
                    found = batch_csv.batches(source, stream)
                else:
                    starts = self._groups(source)
                    first = max(number for number, at in enumerate(starts) if at <= start)
                    start -= starts[first]
                    found = pq.ParquetFile(pa.PythonFile(stream, mode="r")).iter_batches(
                        row_groups=list(range(first, len(starts) - 1))
                    )
                for batch in found:
                    if start < batch.num_rows:
                        yield batch.slice(start)
                    start = max(0, start - batch.num_rows)
        except pa.ArrowInvalid as error:
            raise unreadable(source, error) from error

    def _groups(self, source: Source) -> list[int]:
        """Where each row group of a Parquet file begins, and where the last one ends."""
        import pyarrow as pa  # late: see above
        import pyarrow.parquet as pq

        starts = [0]
        try:
            with (
                closing(self.files.open(source.name)) as stream,
                pq.ParquetFile(pa.PythonFile(stream, mode="r")) as file,
            ):
                for number in range(file.metadata.num_row_groups):
                    starts.append(starts[-1] + file.metadata.row_group(number).num_rows)
        except pa.ArrowInvalid as error:
            raise unreadable(source, error) from error
        return starts


def _is_csv(source: Source) -> bool:
    if source.name.endswith((".parquet", ".csv")):
        return source.name.endswith(".csv")
    raise Invalid(f"{source.name} is neither CSV nor Parquet.", remedy="Convert it, or name others.")
