"""Columns of values, by name as a request brings them, into the numbers that a model computes on; without a frame."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelyard.deliver.serving.bits import Array, Function, Unusual, alike, through
from modelyard.deliver.serving.errors import BadCell, BadInput
from modelyard.deliver.serving.signature import NUMERIC, Column, Signature

Columns = dict[str, Any]
TRIED_ROWS = (1, 2, 33)
MOST_LISTED = 12
"""Categories that a refusal names."""
BATCHES = ((0.0, 1.0), (0.0, 1000.0), (0.2, 1.0))
"""(share of values that are missing or unknown, scale of the numbers) of what both ways are tried on."""


@dataclass(frozen=True)
class Numbers:
    """Columns of numbers that steps are computed on; they fill the places from `start` on."""

    columns: tuple[Column, ...]
    steps: list[Function]
    start: int

    def values(self, given: Columns) -> Array:
        """Shape (rows, columns), in double precision. Raises Unusual for infinite values that a step refuses."""
        if any(column.type == "float" for column in self.columns):
            held = [np.asarray(given[each.name], dtype=NUMERIC[each.type]) for each in self.columns]
        else:
            held = [given[each.name] for each in self.columns]
        rows = np.array(held, dtype=np.float64).T
        return through(self.steps, rows)

    def fill(self, given: Columns, out: Array) -> None:
        values = self.values(given)
        out[:, self.start : self.start + values.shape[1]] = values

    def terms(self, given: Columns, weights: Array) -> Array:
        """What each column adds to the scores, shape (rows, columns, scores)."""
        values = self.values(given)
        return values[:, :, None] * weights[self.start : self.start + values.shape[1]]


@dataclass(frozen=True)
class Categories:
    """One column of categories: `at` says which row of `places` and `values` each becomes; None is a missing one."""

    name: str
    at: dict[Any, int]
    unknown: int | None
    places: Array
    values: Array

    def rows(self, given: Columns) -> list[int]:
        return [self._row(value, index) for index, value in enumerate(given[self.name])]

    def _row(self, value: Any, index: int) -> int:
        found = self.at.get(value)
        if found is not None:
            return found
        if value is None or value != value:
            raise Unusual
        if self.unknown is None:  # the model's own code refused one like it, without naming the column
            raise unknown_category(self.name, index, value, self.at)
        return self.unknown

    def fill(self, given: Columns, out: Array) -> None:
        rows = self.rows(given)
        out[np.arange(len(rows))[:, None], self.places.take(rows, axis=0)] = self.values.take(rows, axis=0)

    def terms(self, given: Columns, weights: Array) -> Array:
        """What the category adds to the scores, shape (rows, places, scores)."""
        rows = self.rows(given)
        return self.values.take(rows, axis=0)[:, :, None] * weights.take(self.places.take(rows, axis=0), axis=0)


Part = Numbers | Categories


@dataclass
class Parts:
    """All columns that a model looks at; `always`: places that hold the same value whatever the row."""

    width: int = 0
    parts: list[Part] = field(default_factory=list)
    always: list[tuple[int, float]] = field(default_factory=list)

    def dense(self, given: Columns) -> Array:
        """Shape (rows, width). Raises Unusual."""
        out = np.zeros((len(next(iter(given.values()))), self.width))
        for place, value in self.always:
            out[:, place] = value
        for part in self.parts:
            part.fill(given, out)
        return out

    def product(self, given: Columns, weights: Array) -> Array:
        """The rows times the weights, added place by place as SciPy multiplies sparse rows; shape (rows, scores)."""
        terms = np.concatenate([part.terms(given, weights) for part in self.parts], axis=1)
        return np.cumsum(terms, axis=1)[:, -1]

    def agree(self, short: Callable[[Columns], Array], own: Function, signature: Signature) -> bool:
        """Whether both answer every tried batch alike: categories known and not, numbers of many scales, holes."""
        random = np.random.default_rng(0)
        for holes, scale in BATCHES:
            tried = self._batch(signature, random, holes, scale)
            for rows in TRIED_ROWS:
                batch = {name: values[:rows] for name, values in tried.items()}
                if not alike(own, short, batch, signature.frame(batch)):
                    return False
        return True

    def _batch(self, signature: Signature, random: Any, holes: float, scale: float) -> Columns:
        known = {part.name: part for part in self.parts if isinstance(part, Categories)}
        found: Columns = {}
        for column in signature.columns:
            values, odd = _tried(column, known.get(column.name), random.normal(scale=scale, size=max(TRIED_ROWS)))
            mixed = odd and random.random(len(values)) < holes
            found[column.name] = (
                [
                    odd[place % len(odd)] if hole else value
                    for place, (value, hole) in enumerate(zip(values, mixed, strict=True))
                ]
                if odd
                else values
            )
        return found


def unknown_category(name: str, row: int, value: Any, known: Iterable[Any]) -> BadInput:
    """What to answer to a category that the model refuses."""
    listed = [repr(each) for each in known if each is not None]
    more = f" and {len(listed) - MOST_LISTED} more" if len(listed) > MOST_LISTED else ""
    expected = f"{', '.join(listed[:MOST_LISTED])}{more}"
    return BadCell(name, row, f"the model does not know {str(value)[:40]!r}; expected {expected}.")


def stranger(known: Sequence[Any], column: Column) -> Any:
    """A value that is none of the categories."""
    if column.type == "string":
        return "x" * (max(map(len, known)) + 1)
    return not known[0] if column.type == "boolean" else max(known) + 1


def _tried(column: Column, part: Categories | None, numbers: Any) -> tuple[list[Any], list[Any]]:
    """(ordinary values of a column, those that stand for a missing or an unknown one)."""
    if part is not None:
        known = [value for value in part.at if value is not None]
        odd = [*([None] if None in part.at else []), *([] if part.unknown is None else [stranger(known, column)])]
        return [known[int(abs(number) * 1000) % len(known)] for number in numbers], odd
    if column.type == "datetime":
        return [None] * len(numbers), []
    made = {"long": round, "integer": round, "boolean": lambda value: bool(value > 0), "string": str}
    values = [made.get(column.type, float)(number) for number in numbers.tolist()]
    return values, [None] if column.type in ("double", "float") else []
