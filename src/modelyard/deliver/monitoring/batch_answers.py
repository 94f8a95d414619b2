"""What a batch prediction wrote, as the prediction log would have it: one `prediction`, and how sure it is."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from modelyard.deliver.monitoring.columns import as_numbers
from modelyard.deliver.monitoring.tables import Table
from modelyard.domain.contracts import OUTPUTS

PREDICTION, CONFIDENCE = OUTPUTS[0], OUTPUTS[3]


class AnsweredTable:
    """A table whose columns `prediction_0`, `prediction_1`, ... are the probabilities of classes.

    Of two the second is the prediction, of as many as there are `classes` the likeliest's name.
    """

    def __init__(self, table: Table, classes: tuple[str, ...]) -> None:
        self._table, self._classes = table, np.array(classes, dtype=object)
        self._parts = [f"{PREDICTION}_{number}" for number in range(len(classes) or 2)]
        self._named = len(self._parts) > 2
        self.names: list[str] = [name for name in table.names if name not in self._parts]
        self.names += [PREDICTION, *([CONFIDENCE] if self._named else [])]
        self.rows: int = table.rows

    def chunks(self, name: str) -> Iterator[Any]:
        if name not in (PREDICTION, CONFIDENCE):
            yield from self._table.chunks(name)
        elif not self._named:
            yield from self._table.chunks(self._parts[1])
        else:
            for parts in zip(*(self._table.chunks(part) for part in self._parts), strict=True):
                chances = np.column_stack([as_numbers(part) for part in parts])
                yield self._classes[chances.argmax(axis=1)] if name == PREDICTION else chances.max(axis=1)


def answered(table: Table, classes: tuple[str, ...]) -> Table:
    """The table with one prediction a row; the table itself when it has that, or other answers than probabilities."""
    parts = [name for name in table.names if name.startswith(f"{PREDICTION}_")]
    wanted = [f"{PREDICTION}_{number}" for number in range(len(classes) or 2)]
    if PREDICTION in table.names or sorted(parts) != sorted(wanted):
        return table
    return AnsweredTable(table, classes)
