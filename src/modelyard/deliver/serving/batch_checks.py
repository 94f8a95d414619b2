"""Rows of batch prediction against the model's signature: one that does not fit is named, or all are set aside."""

import csv
import io
from dataclasses import dataclass, field
from typing import Any

from modelyard.deliver.serving import batch_csv, csv_rows
from modelyard.deliver.serving.batch_csv import ARROW, REMEDY
from modelyard.deliver.serving.batch_files import Source
from modelyard.deliver.serving.errors import BadCell, BadInput
from modelyard.deliver.serving.signature import Signature
from modelyard.domain.errors import Invalid

ASIDE = f"{REMEDY.rstrip('.')}; or put such rows elsewhere: --set-aside FOLDER."
ROW, PROBLEM = "row", "problem"
"""The columns that a row which was set aside has beside its own."""


@dataclass(frozen=True)
class Fitting:
    """Rows that fit: as a table with the columns' types, and as the model takes them; `aside` by the table's rows."""

    table: Any
    taken: dict[str, list[Any]]
    aside: dict[int, str] = field(default_factory=dict[int, str])


def fitting(signature: Signature, source: Source, start: int, table: Any, *, aside: bool) -> Fitting:
    """The rows of a table that begins with row `start` of its input, those that do not fit `aside`.

    Raises Invalid for one that does not fit where none may be set aside, and for a column that is missing.
    """
    columns = {name: _values(signature, source, name, table.column(name)) for name in table.column_names}
    for name, text in source.partitions.items():
        kind = next((column.type for column in signature.columns if column.name == name), None)
        if kind is not None and name not in columns:
            columns[name] = [csv_rows.value(text, kind)] * table.num_rows
    wrong: dict[int, str] = {}
    try:
        taken = signature.take(columns, table.num_rows)
    except BadCell as error:
        if not aside:
            where = f"{source.name}, row {source.row(start + error.row)}"
            raise Invalid(f"{where}: column {error.column!r}: {error.said}", remedy=ASIDE) from None
        wrong = signature.wrong_rows(columns)
        fit = [row for row in range(table.num_rows) if row not in wrong]
        table, columns = only(table, columns, fit)
        taken = signature.take(columns, len(fit))
    except BadInput as error:
        raise Invalid(f"{source.name}: {error}", remedy=REMEDY) from None
    return Fitting(_typed(signature, source, table, columns), taken, wrong)


def only(table: Any, columns: dict[str, list[Any]], rows: list[int]) -> tuple[Any, dict[str, list[Any]]]:
    """These rows of a table, and of columns beside it."""
    import pyarrow as pa  # late: only batch prediction and readers need it

    return table.take(pa.array(rows, pa.int64())), {
        name: [values[row] for row in rows] for name, values in columns.items()
    }


def set_aside(source: Source, start: int, table: Any, wrong: dict[int, str]) -> bytes:
    """CSV of the rows that do not fit, each with its number and what is wrong with it."""
    out = io.StringIO()
    lines = csv.writer(out)
    lines.writerow([*table.column_names, ROW, PROBLEM])
    for row in sorted(wrong):
        cells = [table.column(name)[row].as_py() for name in table.column_names]
        lines.writerow([*cells, source.row(start + row), wrong[row]])
    return out.getvalue().encode()


def _values(signature: Signature, source: Source, name: str, column: Any) -> list[Any]:
    """A column's values as a request would have them: times are ISO 8601 text, decimals are numbers."""
    import pyarrow as pa  # late: see above

    values = column.to_pylist()
    kind = _text_of(signature, source, name)
    if kind is not None:
        return batch_csv.values(values, kind)
    if pa.types.is_decimal(column.type):
        return [None if value is None else float(value) for value in values]
    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type) or pa.types.is_time(column.type)):
        return values
    return [None if value is None else value.isoformat() for value in values]


def _text_of(signature: Signature, source: Source, name: str) -> str | None:
    """The model's type of a column whose cells were read as text, since one of them is not of it; or else None."""
    if dict(source.kinds).get(name) != batch_csv.TEXT:
        return None
    return next((column.type for column in signature.columns if column.name == name and column.type in ARROW), None)


def _typed(signature: Signature, source: Source, table: Any, columns: dict[str, list[Any]]) -> Any:
    """The table, whose columns have their types although a cell elsewhere in the file is none of it."""
    import pyarrow as pa  # late: see above

    for index, name in enumerate(table.column_names):
        kind = _text_of(signature, source, name)
        if kind is not None:
            array = pa.array(columns[name], pa.type_for_alias(ARROW[kind]))
            table = table.set_column(index, name, array)
    return table
