"""Parquet and Arrow streams as request bodies, and predictions as CSV, Parquet or an Arrow stream.

pyarrow is imported with the first such request. What a body claims to hold is bounded before it is unpacked: a few
bytes of Parquet can stand for billions of rows.
"""

import csv
import io
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from modelyard.deliver.serving.columns import check_unique
from modelyard.deliver.serving.errors import BadInput
from modelyard.deliver.serving.parsed import Answer, by_name, columns

PARQUET = frozenset({"application/vnd.apache.parquet", "application/x-parquet"})
ARROW = frozenset({"application/vnd.apache.arrow.stream"})
CSV = frozenset({"text/csv"})
WRITTEN = PARQUET | ARROW | CSV
MOST_CELLS = 20_000_000
MOST_UNPACKED = 512 << 20
"""Bytes of a Parquet body's columns before compression."""


def parse(body: bytes, media: str) -> tuple[dict[str, list[Any]], int]:
    """Columns and the number of rows; times as ISO 8601 text. Raises BadInput (400, 413, 415)."""
    try:
        import pyarrow as pa  # late: the first such request pays for it
    except ImportError:
        raise BadInput(f"{media} needs pyarrow, which this model's libraries lack. Send JSON or CSV.", 415) from None
    try:
        table = _parquet(body) if media in PARQUET else _stream(body)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        words = str(error).partition("\n")[0][:200]
        raise BadInput(f"The body is not {'Parquet' if media in PARQUET else 'an Arrow stream'}: {words}.") from None
    check_unique(table.column_names)
    return {name: _values(table.column(name)) for name in table.column_names}, table.num_rows


def writer(accept: str) -> Callable[[Any], Answer] | None:
    """How predictions are written for a caller that accepts these media types; None for JSON, the default."""
    for media in _preferred(accept):
        if media in PARQUET:
            return _as_parquet
        if media in ARROW:
            return _as_stream
        if media in CSV:
            return _as_csv
        if media in ("application/json", "application/*", "*/*"):
            return None
    return None


def answered(media: str, body: bytes) -> list[Any]:
    """The rows of an answer that a `writer` wrote: a value, or a list of those of a row."""
    if media in CSV:
        lines = [line for line in csv.reader(io.StringIO(body.decode())) if line]
        rows = [[_cell(text) for text in line] for line in lines]
    else:
        columns, count = parse(body, media)
        rows = [[values[row] for values in columns.values()] for row in range(count)]
    return [row[0] if len(row) == 1 else row for row in rows]


def _preferred(accept: str) -> list[str]:
    """Media types of an Accept header, the most wanted first."""
    found: list[tuple[float, str]] = []
    for part in accept.split(","):
        media, *parameters = (item.strip().lower() for item in part.split(";"))
        quality = 1.0
        for item in parameters:
            if item.startswith("q="):
                try:
                    quality = float(item[2:])
                except ValueError:
                    quality = 0.0
        if media and quality > 0:
            found.append((-quality, media))
    return [media for _, media in sorted(found, key=lambda item: item[0])]


def _parquet(body: bytes) -> Any:
    import pyarrow as pa  # late: see above
    import pyarrow.parquet as pq

    file = pq.ParquetFile(pa.BufferReader(body))
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    unpacked = sum(
        group.column(number).total_uncompressed_size for group in groups for number in range(group.num_columns)
    )
    _bound(file.metadata.num_rows, file.metadata.num_columns)
    if unpacked > MOST_UNPACKED:
        raise BadInput(f"The body unpacks to {unpacked} bytes; at most {MOST_UNPACKED} are taken.", 413)
    return file.read(use_threads=False)


def _stream(body: bytes) -> Any:
    import pyarrow as pa  # late: see above

    rows, batches = 0, list[Any]()
    with pa.ipc.open_stream(pa.BufferReader(body)) as stream:
        for batch in stream:
            rows += batch.num_rows
            _bound(rows, batch.num_columns)
            batch.validate(full=True)  # offsets that lead outside would be read otherwise
            batches.append(batch)
        return pa.Table.from_batches(batches, stream.schema)


def _bound(rows: int, columns: int) -> None:
    if rows * max(columns, 1) > MOST_CELLS:
        raise BadInput(
            f"The body holds {rows} rows of {columns} columns; at most {MOST_CELLS} values are taken.", 413
        )


def _values(column: Any) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if any(isinstance(value, date | datetime) for value in values[:1000]):
        return [value.isoformat() if isinstance(value, date | datetime) else value for value in values]
    return values


def _as_csv(predictions: Any) -> Answer:
    """Lines of values, as SageMaker's clients take them; outputs that have names get a header line."""
    named = dict(columns(predictions))
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    if "" not in by_name(predictions):
        lines.writerow(named)
    lines.writerows(zip(*named.values(), strict=True))
    return Answer(out.getvalue().encode(), "text/csv")


def _as_parquet(predictions: Any) -> Answer:
    import pyarrow.parquet as pq  # late: see above

    out = io.BytesIO()
    pq.write_table(_table(predictions), out)
    return Answer(out.getvalue(), "application/vnd.apache.parquet")


def _as_stream(predictions: Any) -> Answer:
    import pyarrow as pa  # late: see above

    table, out = _table(predictions), io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)
    return Answer(out.getvalue(), "application/vnd.apache.arrow.stream")


def _table(predictions: Any) -> Any:
    import pyarrow as pa  # late: see above

    try:
        return pa.table({name: pa.array(values) for name, values in columns(predictions)})
    except pa.ArrowException:
        raise BadInput("These predictions are no table. Accept application/json.", 406) from None


def _cell(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text
