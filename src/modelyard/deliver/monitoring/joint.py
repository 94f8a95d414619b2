"""Joint drift: a classifier that tries to tell current rows from reference rows, and the columns that let it."""

from typing import Any

import numpy as np

from modelyard.deliver.monitoring.categories import codes
from modelyard.deliver.monitoring.columns import COUNTED, as_arrow, expand
from modelyard.deliver.monitoring.reference import Reference
from modelyard.deliver.monitoring.sketches import Floats
from modelyard.deliver.monitoring.tables import Table, open_table
from modelyard.domain.errors import MissingExtra
from modelyard.kit.ranking import auc_standard_error, roc_auc
from modelyard.kit.scores import Z95

MOST_ROWS = 5000
"""Rows of either side; more make the AUC no clearer to a person."""
FOLDS = 5
SEED = 20_130_101
TOP = 5


def tell_apart(reference: Reference, before: Any, after: Any) -> dict[str, Any]:
    """{auc, low, high, rows, columns: [{column, importance}]}: how well the two are told apart out of fold.

    AUC 0.5 is no difference; the interval is Hanley and McNeil's. importance is the AUC lost when the column is
    shuffled, the largest first. Source: Lopez-Paz and Oquab 2017. Raises MissingExtra without scikit-learn.
    """
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier  # late: only joint drift needs it
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtra("scikit-learn", "build", "Joint drift") from error

    first, names = _matrix(reference, open_table(before))
    second, _ = _matrix(reference, open_table(after))
    rows = np.vstack((first, second))
    side = np.concatenate((np.zeros(len(first)), np.ones(len(second))))
    random = np.random.default_rng(SEED)
    folds = random.permutation(len(rows)) % FOLDS
    scores = np.zeros(len(rows))
    lost = np.zeros(len(names))
    for fold in range(FOLDS):
        held = folds == fold
        model = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=15, random_state=0)
        with threadpool_limits(1, "openmp"):  # so few rows gain nothing from threads, which wait for each other
            model.fit(rows[~held], side[~held])
        scores[held] = model.predict_proba(rows[held])[:, 1]
        if fold == 0:
            lost = _lost(model, rows[held], side[held], roc_auc(side[held], scores[held]), random)
    auc = roc_auc(side, scores)
    margin = Z95 * auc_standard_error(auc, len(second), len(first))
    order = np.argsort(-lost)[:TOP]
    columns = [{"column": names[at], "importance": float(lost[at])} for at in order if lost[at] > 0]
    return {"auc": auc, "low": auc - margin, "high": auc + margin, "rows": len(rows), "columns": columns}


def _lost(model: Any, rows: Floats, side: Floats, auc: float, random: np.random.Generator) -> Floats:
    lost = np.zeros(rows.shape[1])
    for column in range(rows.shape[1]):
        shuffled = rows.copy()
        shuffled[:, column] = random.permutation(shuffled[:, column])
        lost[column] = auc - roc_auc(side, model.predict_proba(shuffled)[:, 1])
    return lost


def _matrix(reference: Reference, table: Table) -> tuple[Floats, list[str]]:
    """(rows evenly taken, at most MOST_ROWS, shape (rows, columns); compared columns): categories as their slots."""
    stride = max(1, table.rows // MOST_ROWS)
    columns: dict[str, Floats] = {}
    for name, kind in reference.kinds.items():
        parts: dict[str, list[Any]] = {}
        for chunk in table.chunks(name):
            for part, values in expand(name, kind, chunk).items():
                parts.setdefault(part, []).append(_codes(values) if kind in COUNTED else values)
        columns |= {part: np.concatenate(values)[::stride][:MOST_ROWS] for part, values in parts.items()}
    names = [name for name in reference.layout.columns if name in columns]
    return np.column_stack([columns[name] for name in names]), names


def _codes(values: Any) -> Floats:
    """A number for each category that is the same in both tables: the low bits of its text's digest."""
    import zlib

    array = as_arrow(values)
    known = array.dictionary if hasattr(array, "dictionary") else array
    found = [np.nan if v is None else zlib.crc32(str(v).encode()) % 65_521 for v in known.to_pylist()]
    return np.array(found) if known is array else np.array([*found, np.nan])[codes(array)]
