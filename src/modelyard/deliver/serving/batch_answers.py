"""A model's answers to rows of batch prediction, and the rows that it raises for."""

from collections.abc import Iterator
from typing import Any

from modelyard.deliver.serving.batch_checks import ASIDE, Fitting, only
from modelyard.deliver.serving.batch_files import Source
from modelyard.deliver.serving.errors import BadInput
from modelyard.deliver.serving.loading import Loaded
from modelyard.deliver.serving.parsed import columns, rows_of
from modelyard.domain.errors import Invalid

MOST_RAISED = 1000
"""Rows of a part that are looked for one by one; a model that raises for more has another trouble than rows."""
Answers = list[tuple[str, list[Any]]]
Taken = dict[str, list[Any]]


def answered(loaded: Loaded, source: Source, start: int, found: Fitting, *, aside: bool) -> tuple[Fitting, Answers]:
    """The rows that the model has answers to, and these by column. start: the row that the part begins with.

    Raises Invalid that names the row it raises for where none may be set aside, or the rows if it is no single one.
    """
    rows = [row for row in range(found.table.num_rows + len(found.aside)) if row not in found.aside]
    if not rows:
        return found, []
    whole = f"{source.name}, rows {source.row(start + rows[0])} to {source.row(start + rows[-1])}"
    try:
        return found, _each(loaded, found.taken, len(rows), whole)
    except Invalid:
        raise
    except Exception as error:  # noqa: BLE001 - a model may raise anything; it is told of the row
        raised = error
    wrong: dict[int, str] = {}
    for index, said in _raising(loaded, found.taken, 0, len(rows)):
        if not aside:
            raise Invalid(f"{source.name}, row {source.row(start + rows[index])}: {said}", remedy=ASIDE) from raised
        wrong[index] = said
        if len(wrong) > MOST_RAISED:
            raise Invalid(f"{whole}: for more than {MOST_RAISED} of them {said}", remedy="Correct the model.")
    fit = [index for index in range(len(rows)) if index not in wrong]
    table, taken = only(found.table, found.taken, fit)
    found = Fitting(table, taken, found.aside | {rows[index]: said for index, said in wrong.items()})
    try:
        return found, _each(loaded, taken, len(fit), whole) if fit else []
    except Invalid:
        raise
    except Exception as error:  # as above
        raise Invalid(f"{whole}: {_said(error)}", remedy="Correct the model.") from error


def _raising(loaded: Loaded, taken: Taken, first: int, end: int) -> Iterator[tuple[int, str]]:
    """(row, what is said of it) for each of these rows that the model raises for alone, found by halves."""
    try:
        _ask(loaded, {name: values[first:end] for name, values in taken.items()})
    except Exception as error:  # noqa: BLE001 - see above
        if end - first == 1:
            yield first, _said(error)
            return
        middle = (first + end) // 2
        yield from _raising(loaded, taken, first, middle)
        yield from _raising(loaded, taken, middle, end)


def _each(loaded: Loaded, taken: Taken, rows: int, whole: str) -> Answers:
    """The answers to rows. Raises Invalid unless there is one for each."""
    answers = _ask(loaded, taken)
    if rows_of(answers) != rows:
        raise Invalid(
            f"{whole}: the model does not answer each row by itself, but {rows} rows by {_told(answers)}.",
            remedy="Ask it over its endpoint, one request for each answer.",
        )
    return columns(answers)


def _told(answers: Any) -> str:
    count = rows_of(answers)
    return f"one {type(answers).__name__}" if count is None else f"{count} rows"


def _ask(loaded: Loaded, taken: Taken) -> Any:
    tensor = loaded.signature.one_tensor
    inputs = taken if tensor is None else tensor.array(list(zip(*taken.values(), strict=True)))
    return loaded.predict(inputs)


def _said(error: Exception) -> str:
    if isinstance(error, BadInput):  # of a tensor
        return str(error)
    words = (str(error).strip().splitlines() or [""])[0][:200]
    return f"the model raised {type(error).__name__}: {words}"
