"""CSV files of batch prediction: read by the model's types, and what is wrong with them found by its row."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple

from modelyard.deliver.serving import csv_rows
from modelyard.deliver.serving.batch_files import Source
from modelyard.domain.errors import Invalid

ARROW = {"double": "float64", "float": "float64", "long": "int64", "integer": "int64", "boolean": "bool"}
"""Wide enough for what a column's type says; ranges are checked with the rows."""
TEXT = "string"
HEAD = 1 << 20
UNFIT = re.compile(r"In CSV column #(\d+):(?: Row #\d+:)? CSV conversion error")
REMEDY = "Correct it and run again: parts of inputs that did not change are kept."


class Ragged(NamedTuple):
    """A line that has another number of cells than the header; rows count from 1 below it."""

    row: int
    problem: str
    line: str


class Looked(NamedTuple):
    """An input that was read once: with what was learnt of it, its rows, and the lines that are none."""

    source: Source
    rows: int
    ragged: tuple[Ragged, ...] = ()


def look(source: Source, open: Callable[[], Any], types: dict[str, str], *, skip: bool) -> Looked:
    """Read a file once. A column is text where the model says so, or where a cell is not of its type.

    types: of the model's columns; skip: pass over lines that are no rows. Raises Invalid.
    """
    import pyarrow as pa  # late: only batch prediction and readers need it

    with closing(open()) as stream:
        names = _header(source, stream.read(HEAD))
    kinds = {name: ARROW.get(types[name], TEXT) for name in names if types.get(name, "datetime") != "datetime"}
    while True:
        ragged: list[Ragged] = []
        try:
            with closing(open()) as stream:
                rows = sum(batch.num_rows for batch in _read(stream, kinds, ragged.append if skip else None))
            break
        except pa.ArrowInvalid as error:
            found = UNFIT.match(str(error))
            name = names[int(found[1])] if found else ""
            if not name or kinds.get(name) == TEXT:
                raise unreadable(source, error) from error
            kinds[name] = TEXT
    if ragged and not rows:
        raise unreadable(source, f"row {ragged[0].row}: {ragged[0].problem}")
    known = replace(source, kinds=tuple(kinds.items()), skipped=tuple(sorted(item.row for item in ragged)))
    return Looked(known, rows, tuple(ragged))


def batches(source: Source, stream: Any) -> Iterator[Any]:
    """Record batches of a file that was looked at."""
    return _read(stream, dict(source.kinds), (lambda _: None) if source.skipped else None)


def values(texts: list[str], kind: str) -> list[Any]:
    """The values of a column of a model's type whose cells were read as text; what is no value of it stays text."""
    nulls = _nulls()
    return [None if kind != TEXT and text in nulls else csv_rows.value(text, kind) for text in texts]


def unreadable(source: Source, error: object) -> Invalid:
    """Why a file cannot be read, as the user is told."""
    said = re.sub(r"^CSV parse error: Row #(\d+)", lambda found: f"row {int(found[1]) - 1}", str(error).rstrip("."))
    return Invalid(f"{source.name} cannot be read: {said}.", remedy=REMEDY)


def _read(stream: Any, kinds: dict[str, str], skipped: Callable[[Ragged], None] | None) -> Iterator[Any]:
    import pyarrow as pa  # late: see above
    import pyarrow.csv

    def pass_over(row: Any) -> str:
        assert skipped is not None
        problem = f"{row.actual_columns} cells; the header has {row.expected_columns}."
        skipped(Ragged(row.number - 1, problem, row.text))
        return "skip"

    with pyarrow.csv.open_csv(
        pa.PythonFile(stream, mode="r"),
        read_options=pyarrow.csv.ReadOptions(use_threads=False),  # with threads it does not count rows
        parse_options=pyarrow.csv.ParseOptions(
            newlines_in_values=True, invalid_row_handler=pass_over if skipped else None
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: pa.type_for_alias(kind) for name, kind in kinds.items()}
        ),
    ) as reader:
        yield from reader


def _header(source: Source, head: bytes) -> list[str]:
    names = next(csv.reader(io.StringIO(head.decode("utf-8-sig", "replace"))), [])
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise unreadable(source, f"its header has {twice!r} twice")
    return names


def _nulls() -> frozenset[str]:
    import pyarrow.csv  # late: see above

    return frozenset(pyarrow.csv.ConvertOptions().null_values)
