"""Histogram gradient boosting of scikit-learn for few rows: all trees are walked together, a level at a time.

scikit-learn calls into each tree on its own, which costs about 10 us a tree whatever the rows. Many rows are quicker
its way, and so are categories.
"""

from typing import Any

import numpy as np

from modelyard.deliver.serving.bits import Array, Function, is_a

MOST_ROWS = 24
"""More rows are quicker the model's own way."""
NAMES = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")


def is_boosted(model: Any) -> bool:
    return is_a(model, *NAMES)


def short(model: Any, function: str) -> Function | None:
    """The function by a walk over all trees at once; None for models that it does not know."""
    if not is_boosted(model) or model.n_trees_per_iteration_ != 1 or model._preprocessor is not None:
        return None
    trees = [iteration[0].nodes for iteration in model._predictors]
    if any(nodes["is_categorical"].any() for nodes in trees):
        return None
    raw = _walk(trees, model._baseline_prediction)
    finish = _finish(model, function)
    if finish is None:
        return None
    own: Function = getattr(model, function)
    return lambda rows: finish(raw(rows)) if len(rows) <= MOST_ROWS else own(rows)


def _finish(model: Any, function: str) -> Function | None:
    """From the sum of the leaves to the answer."""
    if type(model).__name__ == "HistGradientBoostingRegressor":
        return model._loss.link.inverse
    if function == "predict_proba":
        return model._loss.predict_proba
    if function == "predict":
        return lambda raw: model.classes_[(raw > 0).astype(int)]
    return None


def _walk(trees: list[Array], baseline: Array) -> Function:
    """The function from rows to the sum of baseline and leaves, added in the order of the trees."""
    sizes = [len(nodes) for nodes in trees]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp)
    nodes = np.concatenate(trees)
    base = np.repeat(starts, sizes)
    leaf = nodes["is_leaf"].astype(bool)
    itself = np.arange(len(nodes))
    feature = np.where(leaf, 0, nodes["feature_idx"]).astype(np.intp)
    threshold = np.where(leaf, np.inf, nodes["num_threshold"])
    left = np.where(leaf, itself, nodes["left"] + base)
    right = np.where(leaf, itself, nodes["right"] + base)
    children = np.stack([left, right], axis=1).reshape(-1).astype(np.intp)
    missing_right = nodes["missing_go_to_left"] == 0
    value = np.ascontiguousarray(nodes["value"])
    depth = int(nodes["depth"].max())
    first = np.asarray(baseline).reshape(1, 1)

    def raw(rows: Array) -> Array:
        count, width = rows.shape
        flat = rows.reshape(-1)
        offsets = np.arange(count, dtype=np.intp) * width
        missing = np.isnan(flat) if np.isnan(flat).any() else None
        at = np.repeat(starts[:, None], count, axis=1)
        for _ in range(depth):
            cells = feature.take(at)
            cells += offsets
            goes_right = flat.take(cells) > threshold.take(at)
            if missing is not None:
                goes_right = np.where(missing.take(cells), missing_right.take(at), goes_right)
            at *= 2
            at += goes_right
            at = children.take(at)
        leaves = np.concatenate([np.broadcast_to(first, (1, count)), value.take(at)])
        return np.cumsum(leaves, axis=0)[-1]

    return raw


def near_thresholds(model: Any, shape: tuple[int, int], random: np.random.Generator) -> Array | None:
    """Rows on and about the thresholds of the trees, some values missing; None for other models."""
    if not is_boosted(model):
        return None
    nodes = np.concatenate([tree.nodes for iteration in model._predictors for tree in iteration])
    nodes = nodes[nodes["is_leaf"] == 0]
    if not len(nodes):
        return None
    rows = random.normal(size=shape)
    for column in range(shape[1]):
        thresholds = nodes["num_threshold"][nodes["feature_idx"] == column]
        if len(thresholds):
            chosen = random.choice(thresholds, shape[0])
            rows[:, column] = np.where(random.random(shape[0]) < 0.5, chosen, np.nextafter(chosen, np.inf))
    rows[random.random(shape) < 0.05] = np.nan
    return rows
