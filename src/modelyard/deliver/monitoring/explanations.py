"""What the model looks at, live against the reference: sampled Shapley values, and whether their ranking moved.

A model may be fed what it knows column by column and still lean on other columns than before, because they vary
differently together. Shapley values are sampled by walks from a reference row to the row in question, one column
after the other, so any model will do, at a cost that is known before: MOST_PREDICTIONS for each side.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from modelyard.deliver.monitoring.sketches import Floats
from modelyard.kit.relevance import ndcg

Predict = Callable[[dict[str, list[Any]]], Any]
"""Columns by name -> one answer a row: a number, a class, probabilities."""
Columns = Mapping[str, list[Any]]
MOST_WALKS = 16
MOST_PREDICTIONS = 200_000
DRAWS = 200
DEVIATIONS = 4.5
REFERENCE_ROWS = 2
"""So many times the rows of a window are explained of the reference: its own noise has to be told from a change."""
SEED = 20_130_101


@dataclass(frozen=True)
class Explained:
    """What the reference shows: mean size of each column's Shapley values, and how low NDCG goes by chance alone.

    walks: as many are taken of a window too, for the mean size falls with their number.
    """

    attributions: dict[str, float]
    floor: float
    rows: int
    walks: int


@dataclass(frozen=True)
class Ranking:
    """Live attributions against the reference's; ndcg 1 is the same ranking, `limit` what it must not fall below."""

    ndcg: float
    limit: float
    columns: list[dict[str, Any]]
    rows: int

    @property
    def drifted(self) -> bool:
        return self.ndcg < self.limit

    @property
    def title(self) -> str:
        said = f"attribution ranking NDCG {self.ndcg:.3f}, limit {self.limit:.3f}"
        moved = [c for c in self.columns if c["rank_after"] < c["rank_before"]]
        if not self.drifted or not moved:
            return said
        most = max(moved, key=lambda c: c["after"] - c["before"])
        return f"{said}: {most['name']} rose from place {most['rank_before']} to {most['rank_after']}"

    def as_detail(self) -> dict[str, Any]:
        return {**asdict(self), "metric": "ndcg", "value": self.ndcg}


def explain_reference(predict: Predict, reference: Columns, rows: int) -> Explained:
    """The reference's attributions, and the chance of a window of `rows` rows: mean less DEVIATIONS deviations."""
    chosen = thinned(reference, rows * REFERENCE_ROWS)
    walks = walks_for(len(next(iter(chosen.values()))), len(chosen))
    values = np.abs(shapley(predict, chosen, reference, walks))
    means, random = values.mean(axis=0), np.random.default_rng(SEED)
    count = len(values)
    drawn = [_ndcg(means, values[random.integers(0, count, min(rows, count))].mean(axis=0)) for _ in range(DRAWS)]
    floor = float(np.mean(drawn) - DEVIATIONS * np.std(drawn))
    return Explained(dict(zip(chosen, means.tolist(), strict=True)), floor, count, walks)


def compare(
    predict: Predict, reference: Columns, explained: Explained, live: Columns, rows: int, min_ndcg: float
) -> Ranking:
    """The ranking of a window's attributions against the reference's: NDCG, as Clarify's feature attribution drift.

    The gain of a column is the reference's attribution, its place the live one. Source: Jarvelin and Kekalainen 2002.
    """
    chosen = thinned(live, rows)
    after = np.abs(shapley(predict, chosen, reference, explained.walks)).mean(axis=0)
    before = np.array([explained.attributions[name] for name in chosen])
    ranks = [np.argsort(np.argsort(-values, kind="stable"), kind="stable") + 1 for values in (before, after)]
    columns = [
        {
            "name": name,
            "before": float(before[at]),
            "after": float(after[at]),
            "rank_before": int(ranks[0][at]),
            "rank_after": int(ranks[1][at]),
        }
        for at, name in enumerate(chosen)
    ]
    columns.sort(key=lambda column: column["rank_after"])
    count = len(next(iter(chosen.values())))
    return Ranking(_ndcg(before, after), min(min_ndcg, explained.floor), columns, count)


def shapley(predict: Predict, rows: Columns, background: Columns, walks: int = MOST_WALKS) -> Floats:
    """Shapley values of the answers to rows, shape (rows, columns), against random rows of the background.

    Each walk changes a background row into the row, one column after the other in a random order and then in the
    reverse one; what a column's change does to the answer, on average over walks, is its value (Strumbelj and
    Kononenko 2014; antithetic as in Mitchell et al. 2022). For an additive model one walk is exact up to the
    background drawn.
    """
    names = list(rows)
    count, width = len(rows[names[0]]), len(names)
    random = np.random.default_rng(SEED)
    aim, known = _table(rows, names), _table(background, names)
    own = _values(predict(_columns(aim, names)), None)
    total = np.zeros((count, width))
    for _ in range(walks // 2):
        start = known[random.integers(0, len(known), count)]
        order = random.permutation(width)
        for path in (order, order[::-1]):
            steps = np.repeat(start[None], width + 1, axis=0)
            for place, column in enumerate(path):
                steps[place + 1 :, :, column] = aim[:, column]
            answers = predict(_columns(steps.reshape(-1, width), names))
            values = _values(answers, own).reshape(width + 1, count)
            total[:, path] += np.diff(values, axis=0).T
    return total / walks


def walks_for(rows: int, columns: int) -> int:
    """How many walks MOST_PREDICTIONS allow, an even number."""
    return max(2, min(MOST_WALKS, MOST_PREDICTIONS // max(1, rows * (columns + 1))) // 2 * 2)


def thinned(columns: Columns, rows: int) -> dict[str, list[Any]]:
    """At most so many rows, evenly taken, and no more than MOST_PREDICTIONS can explain by two walks."""
    names = list(columns)
    have = len(columns[names[0]])
    most = min(rows, have, max(1, MOST_PREDICTIONS // (2 * (len(names) + 1))))
    chosen = np.unique(np.linspace(0, have - 1, most).astype(int)).tolist()
    return {name: [columns[name][at] for at in chosen] for name in names}


def _table(columns: Columns, names: list[str]) -> Any:
    table = np.empty((len(columns[names[0]]), len(names)), dtype=object)
    for place, name in enumerate(names):
        table[:, place] = columns[name]
    return table


def _columns(table: Any, names: list[str]) -> dict[str, list[Any]]:
    return {name: table[:, place].tolist() for place, name in enumerate(names)}


def _values(answers: Any, own: Any) -> Any:
    """What is explained of answers: a number, or whether (with what probability) the row's own class is answered.

    own: what `_values` gave for the rows themselves, whose number divides that of the answers; None for those.
    """
    held = np.asarray(answers)
    if held.ndim == 2 and held.shape[1] == 2:
        return held[:, 1].astype(float)
    if held.ndim == 2:
        chosen = held.argmax(axis=1) if own is None else np.tile(own, len(held) // len(own)).astype(int)
        return chosen if own is None else held[np.arange(len(held)), chosen].astype(float)
    if held.dtype.kind in "OUS":
        texts = held.astype(str)
        return texts if own is None else (texts == np.tile(own, len(texts) // len(own))).astype(float)
    return held.astype(float)


def _ndcg(before: Any, after: Any) -> float:
    """1 for the same order. before: gains; after: by which the columns are ranked."""
    return float(ndcg(np.asarray(before), np.asarray(after), len(before))) if np.any(before > 0) else 1.0
