"""Where a model's library refuses a value of the caller's: its column, its row and what it is."""

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from modelyard.deliver.serving.errors import BadCell, BadInput, Declined
from modelyard.deliver.serving.parsed import Parsed
from modelyard.deliver.serving.signature import Signature

UNKNOWN_CATEGORIES = re.compile(r"Found unknown categories (\[.*\]) in column", re.DOTALL)
"""How scikit-learn's encoders begin their refusal."""
MISSING = re.compile(r"\b(nan|None)\b")
MISSES = "missing"
NO_NULL = "the model takes no missing value here; expected text, found nothing (null)."
LARGEST = float(np.finfo(np.float32).max)


def found(parsed: Parsed, signature: Signature, error: Exception) -> BadInput | None:
    """The refusal of scikit-learn in words of the request's; None for an error of the model's own."""
    if not isinstance(error, ValueError):
        return None
    message = str(error)
    columns = parsed.columns if parsed.matrix is None else dict(zip(signature.names, parsed.matrix.T, strict=False))
    if "contains NaN" in message or "contains infinity" in message:  # its `assert_all_finite`
        return _not_finite(columns, "dtype('float32')" in message, of_numbers=parsed.matrix is not None)
    listed = UNKNOWN_CATEGORIES.match(message)
    text = {column.name: columns[column.name] for column in signature.columns if column.type == "string"}
    return _not_known(text, listed[1]) if listed else None


def without_text(parsed: Parsed, signature: Signature, ask: Callable[[Any], Any]) -> BadInput | None:
    """The refusal of a null in a text column; None where the model raises for what else is there, too.

    What it raises for a null says nothing of the place, and is another thing in each library. So it is asked again
    with empty texts for nulls. Columns that the signature says are optional may be null: there it is its failure.
    """
    if signature.item is not None:
        given, texts = {"": parsed.matrix}, [""] if signature.item.type == "string" else []
    else:
        given = parsed.columns
        texts = [column.name for column in signature.columns if column.type == "string" and column.required]
    null = [name for name in texts if None in given.get(name, ())]
    for names in [*([name] for name in null), null]:
        filled = given | {name: ["" if value is None else value for value in given[name]] for name in names}
        if names and _answers(ask, filled if signature.item is None else filled[""]):
            row = given[names[0]].index(None)
            return BadCell(names[0], row, NO_NULL) if names[0] else Declined(f"Row {row}: {NO_NULL}")
    return None


def _answers(ask: Callable[[Any], Any], given: Any) -> bool:
    try:
        ask(given)
    except Exception:  # noqa: BLE001 - a model may raise anything
        return False
    return True


def _not_finite(columns: dict[str, Iterable[Any]], single: bool, of_numbers: bool) -> BadInput | None:
    """A table may have missing values by its nature: a model that raises for one fails, and its canary with it."""
    for name, values in columns.items():
        for row, value in enumerate(values):
            what = "" if isinstance(value, str) else _strange(value, single)
            if what == MISSES and not of_numbers:
                return None
            if what:
                return Declined(f"{name!r} is {what} in row {row}; this model takes finite numbers only.")
    return None


def _strange(value: Any, single: bool) -> str:
    number = math.nan if value is None else float(value)
    if math.isfinite(number):
        return "too large for single precision" if single and abs(number) > LARGEST else ""
    return MISSES if math.isnan(number) else "infinite"


def _not_known(columns: dict[str, Iterable[Any]], listed: str) -> BadInput | None:
    """The refusal says which values, but not of which column."""
    for name, values in columns.items():
        for row, value in enumerate(values):
            if isinstance(value, str) and repr(value) in listed:
                return BadCell(name, row, f"the model does not know {value[:40]!r}.")
            if value is None and MISSING.search(listed):
                return BadCell(name, row, NO_NULL)
    return None
