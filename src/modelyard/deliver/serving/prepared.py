"""scikit-learn's pipelines that begin with a ColumnTransformer or an encoder, from columns of values without a frame.

A frame of a dozen columns and the checks of each step cost 6 ms a call. Here numbers are computed as in `shortcuts`.
Categories are looked up: the pipeline's own encoder is asked once, when the model is loaded, for what each category
of each column becomes, for an unknown one and for a missing one. What it refuses is left to it, with its words.
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelyard.deliver.serving import shortcuts
from modelyard.deliver.serving.bits import Array, is_a
from modelyard.deliver.serving.parts import Categories, Columns, Numbers, Parts, stranger
from modelyard.deliver.serving.signature import NUMERIC, Column, Signature

ENCODERS = ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder")
BY_COLUMN = (*ENCODERS, "SimpleImputer", "StandardScaler", "MinMaxScaler", "MaxAbsScaler")
"""Steps that make of each column what that column alone says."""
MOST_CATEGORIES = 20_000
MOST_ASKED, MOST_CELLS = 1 << 26, 1 << 22
"""Numbers that an encoder answers at once when it is asked for a column's categories; that a column keeps."""
logger = logging.getLogger("modelyard.worker")


class Unknown(Exception):
    """The pipeline has a part that is not known here."""


def of(model: Any, function: str, signature: Signature) -> Callable[[Columns], Array] | None:
    """The model's function of columns by name; None where that is not known, or one bit differs."""
    if not is_a(model, "Pipeline") or not signature.columns:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an encoder warns of each unknown category
            made = _Preparation(model.steps[0][1], signature)
            short = _answers(made, model, function)
            return short if made.parts.agree(short, getattr(model, function), signature) else None
    except (*shortcuts.CHANGED, Unknown) as error:
        logger.info("The pipeline is called as it is: %s: %s", type(error).__name__, error)
        return None


def _answers(made: "_Preparation", model: Any, function: str) -> Callable[[Columns], Array]:
    """From columns through the first step to the answers of the rest."""
    rest, parts = model[1:], made.parts
    finish = shortcuts.linear(rest[-1], function) if made.sparse and len(rest) == 1 else None
    if finish is not None:
        last = rest[-1]
        weights = np.ascontiguousarray(last.coef_.T.reshape(parts.width, -1))
        shape = (-1, *last.coef_.shape[:-1])
        return lambda given: finish(shortcuts.finite(parts.product(given, weights).reshape(shape) + last.intercept_))
    final = shortcuts.of(rest, function)
    if made.sparse:
        from scipy.sparse import csr_matrix  # scikit-learn's own dependency

        return lambda given: final(csr_matrix(parts.dense(given)))
    return lambda given: final(parts.dense(given))


class _Preparation:
    """A fitted ColumnTransformer, or an encoder of all columns, as parts."""

    def __init__(self, step: Any, signature: Signature) -> None:
        self._signature = signature
        self._of = {column.name: column for column in signature.columns}
        names = [str(name) for name in step.feature_names_in_]
        self.parts = Parts()
        if is_a(step, "ColumnTransformer"):
            self._by_columns(step, names)
            self.sparse = bool(step.sparse_output_)
        else:
            self.sparse = getattr(step, "sparse_output", False)
            self._add(step, names, 0)
        if self.sparse and self.parts.always:
            raise Unknown("a column of one category")

    def _by_columns(self, step: Any, names: list[str]) -> None:
        if step.transformer_weights:
            raise Unknown("transformer_weights")
        for name, transformer, _ in step.transformers_:
            place = step.output_indices_[name]
            if place.stop > place.start:
                self._add(
                    transformer, [names[index] for index in step._transformer_to_input_indices[name]], place.start
                )
                self.parts.width = max(self.parts.width, place.stop)

    def _add(self, transformer: Any, names: list[str], start: int) -> None:
        columns = tuple(self._of[name] for name in names)
        steps = [each for _, each in transformer.steps] if is_a(transformer, "Pipeline") else [transformer]
        encoder = next((each for each in steps if is_a(each, *ENCODERS)), None)
        if encoder is not None and all(is_a(each, *BY_COLUMN) for each in steps):
            self._add_categories(transformer, encoder, columns, start)
            return
        computed = shortcuts.transforms_of(steps)
        kinds = [np.dtype(NUMERIC[column.type]) for column in columns if column.required or column.type != "boolean"]
        if computed is None or len(kinds) != len(columns) or np.result_type(*kinds) == np.float32:
            raise Unknown(type(transformer).__name__)
        self.parts.parts.append(Numbers(columns, computed, start))

    def _add_categories(self, transformer: Any, encoder: Any, columns: tuple[Column, ...], start: int) -> None:
        """Ask the transformer for each category of each column, the other columns at their first."""
        known = [_listed(values, column) for values, column in zip(encoder.categories_, columns, strict=True)]
        if sum(map(len, known)) > MOST_CATEGORIES:
            raise Unknown(f"more than {MOST_CATEGORIES} categories")
        first = [values[0] for values in known]
        asked = _Asked(self._signature, transformer, columns, first)
        made = asked.outputs([first])
        assert made is not None
        base, width = made[0], made.shape[1]
        if max(map(len, known)) * width > MOST_ASKED:
            raise Unknown("too many categories")
        taken: set[int] = set()
        for index, column in enumerate(columns):
            outputs = asked.each(index, known[index])
            strange = asked.each(index, [stranger(known[index], column)])
            missing = asked.each(index, [None]) if column.type not in ("long", "integer", "boolean") else None
            if outputs is None:
                raise Unknown(column.name)
            held = np.concatenate([outputs, *[each for each in (strange, missing) if each is not None]])
            own = np.flatnonzero((_bits(held) != _bits(base)[None, :]).any(axis=0))
            if taken & set(own.tolist()):
                raise Unknown("columns that depend on each other")
            taken |= set(own.tolist())
            at: dict[Any, int] = {value: place for place, value in enumerate(known[index])}
            unknown = None if strange is None else len(outputs)
            if missing is not None:
                at[None] = len(held) - 1
            self.parts.parts.append(Categories(column.name, at, unknown, *_entries(held, own, start)))
        self.parts.always += [
            (start + place, float(base[place]))
            for place in range(len(base))
            if place not in taken and base[place] != 0
        ]
        self.parts.width = max(self.parts.width, start + width)


@dataclass(frozen=True)
class _Asked:
    """A transformer that is asked what it makes of rows of categories."""

    signature: Signature
    transformer: Any
    columns: tuple[Column, ...]
    first: list[Any]

    def outputs(self, rows: Sequence[Sequence[Any]]) -> Array | None:
        """Shape (rows, places), in double precision; None where it refuses one."""
        names = [column.name for column in self.columns]
        part = Signature(self.columns)
        try:
            found = self.transformer.transform(
                part.frame(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
            )
        except ValueError:
            return None
        found = found.toarray() if hasattr(found, "toarray") else np.asarray(found)
        return np.asarray(found, dtype=np.float64)

    def each(self, index: int, values: Sequence[Any]) -> Array | None:
        """The outputs for each value of one column."""
        return self.outputs([[*self.first[:index], value, *self.first[index + 1 :]] for value in values])


def _listed(categories: Array, column: Column) -> list[Any]:
    """The categories but a missing one, as values of the column's type. Raises Unknown for others."""
    values = [value for value in categories.tolist() if value is not None and value == value]
    wanted = {"string": str, "boolean": bool, "double": float, "long": int, "integer": int}.get(column.type)
    if not values or (wanted is not None and not all(type(value) is wanted for value in values)) or wanted is None:
        raise Unknown(f"categories of {column.name}")
    return values


def _bits(values: Array) -> Array:
    return np.ascontiguousarray(values).view(np.int64)


def _entries(outputs: Array, own: Array, start: int) -> tuple[Array, Array]:
    """(places, values) for each row of outputs: the one that is not zero, or all where a row has several."""
    mine = outputs[:, own]
    filled = _bits(mine) != 0
    if not len(own):
        return np.zeros((len(outputs), 0), dtype=np.intp), np.zeros((len(outputs), 0))
    if filled.sum(axis=1).max() <= 1:
        chosen = filled.argmax(axis=1)
        return (own + start)[chosen][:, None], mine[np.arange(len(mine)), chosen][:, None]
    if mine.size > MOST_CELLS:
        raise Unknown("too many categories")
    return np.broadcast_to(own + start, mine.shape).astype(np.intp), mine
