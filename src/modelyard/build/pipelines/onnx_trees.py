"""Trees of scikit-learn and XGBoost as the lists that ONNX's TreeEnsemble takes."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class NotConverted(Exception):
    """The model, or what it does with one kind of value, has no graph here; the message names it."""


@dataclass
class Trees:
    """All trees of a model: inner nodes and leaves apart, each child's place among one or the other.

    single: values are compared in single precision; strict: the left child is for values below the threshold, not at
    it; baseline is added to, and divisor taken from, the sum of the leaves of each target.
    """

    targets: int = 1
    single: bool = False
    strict: bool = False
    divisor: float = 1.0
    baseline: Any = 0.0
    roots: list[int] = field(default_factory=list)
    features: list[int] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)
    missing_left: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    left_is_leaf: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    right_is_leaf: list[int] = field(default_factory=list)
    leaves: list[float] = field(default_factory=list)
    leaf_targets: list[int] = field(default_factory=list)

    def add(self, left: Any, right: Any, feature: Any, threshold: Any, missing_left: Any, leaf: Any, values: Any,
            target: int) -> None:  # fmt: skip
        """One tree by arrays over its nodes, the root first; `leaf` tells its leaves, whose `values` count."""
        leaf = np.asarray(leaf, dtype=bool)
        place = np.where(leaf, np.cumsum(leaf) - 1 + len(self.leaves), np.cumsum(~leaf) - 1 + len(self.features))
        inner = np.flatnonzero(~leaf)
        self.leaves += np.asarray(values, dtype=np.float64)[leaf].tolist()
        self.leaf_targets += [target] * int(leaf.sum())
        self.roots.append(len(self.features))
        if not len(inner):  # a tree of one leaf is a node both of whose sides are that leaf
            self._nodes([0], [0.0], [0], [int(place[0])], [1], [int(place[0])], [1])
            return
        lefts, rights = np.asarray(left)[inner], np.asarray(right)[inner]
        self._nodes(
            np.asarray(feature)[inner].astype(int).tolist(),
            np.asarray(threshold, dtype=np.float64)[inner].tolist(),
            np.asarray(missing_left)[inner].astype(int).tolist(),
            place[lefts].tolist(),
            leaf[lefts].astype(int).tolist(),
            place[rights].tolist(),
            leaf[rights].astype(int).tolist(),
        )

    def _nodes(self, *lists: list[Any]) -> None:
        held = (
            self.features, self.thresholds, self.missing_left, self.left, self.left_is_leaf, self.right,
            self.right_is_leaf,
        )  # fmt: skip
        for mine, given in zip(held, lists, strict=True):
            mine += given


def forest_of(model: Any) -> Trees:
    """Trees, forests and gradient boosting of scikit-learn."""
    if getattr(model, "n_outputs_", 1) != 1:
        raise NotConverted(f"{type(model).__name__} of several outputs")
    made = Trees(single=True)
    if type(model).__name__.startswith("GradientBoosting"):
        made.targets = model.estimators_.shape[1]
        made.baseline = _baseline(model)
        for row in model.estimators_:
            for target, tree in enumerate(row):
                _add(made, tree.tree_, tree.tree_.value[:, 0, 0] * model.learning_rate, target)
        return made
    several = getattr(model, "estimators_", None)
    trees = [model.tree_] if several is None else [each.tree_ for each in several]
    made.divisor = float(len(trees))
    classes = len(model.classes_) if hasattr(model, "classes_") else 0
    made.targets = classes if classes > 2 else 1
    for tree in trees:
        if classes == 2:
            _add(made, tree, tree.value[:, 0, 1] / tree.value[:, 0].sum(axis=1), 0)
        elif classes:
            for target in range(classes):  # a leaf has one target, so each class has the tree once
                _add(made, tree, tree.value[:, 0, target] / tree.value[:, 0].sum(axis=1), target)
        else:
            _add(made, tree, tree.value[:, 0, 0], 0)
    return made


def _add(made: Trees, tree: Any, values: Any, target: int) -> None:
    missing = getattr(tree, "missing_go_to_left", np.zeros(tree.node_count))
    leaf = tree.children_left < 0
    made.add(tree.children_left, tree.children_right, tree.feature, tree.threshold, missing, leaf, values, target)


def _baseline(model: Any) -> Any:
    """What gradient boosting starts from, where that is the same for every row."""
    if model.init_ != "zero" and not type(model.init_).__name__.startswith("Dummy"):
        raise NotConverted(f"{type(model).__name__} that starts from {type(model.init_).__name__}")
    return model._raw_predict_init(np.zeros((1, model.n_features_in_), dtype=np.float32))[0]


def histogram_trees(model: Any) -> Trees:
    """Histogram boosting of scikit-learn, whose thresholds are in double precision."""
    if model._preprocessor is not None:
        raise NotConverted(f"{type(model).__name__} with categories")
    made = Trees(targets=model.n_trees_per_iteration_, baseline=np.asarray(model._baseline_prediction).reshape(-1))
    for iteration in model._predictors:
        for target, tree in enumerate(iteration):
            nodes = tree.nodes
            if nodes["is_categorical"].any():
                raise NotConverted(f"{type(model).__name__} with categories")
            made.add(
                nodes["left"], nodes["right"], nodes["feature_idx"], nodes["num_threshold"],
                nodes["missing_go_to_left"], nodes["is_leaf"], nodes["value"], target,
            )  # fmt: skip
    return made


def xgboost_trees(model: Any) -> Trees:
    """Trees of XGBoost, by its own JSON."""
    described = json.loads(model.get_booster().save_raw("json"))["learner"]
    objective = described["objective"]["name"]
    if objective not in ("binary:logistic", "multi:softprob", "multi:softmax", "reg:squarederror"):
        raise NotConverted(f"XGBoost's objective {objective}")
    booster = described["gradient_booster"]
    if booster["name"] != "gbtree":
        raise NotConverted(f"XGBoost's booster {booster['name']}")
    held = booster["model"]
    classes = int(described["learner_model_param"]["num_class"])
    made = Trees(targets=max(1, classes), single=True, strict=True)
    bases = json.loads(str(described["learner_model_param"]["base_score"]))
    base = np.broadcast_to(np.asarray(bases, dtype=np.float64), (made.targets,))
    made.baseline = np.log(base / (1 - base)) if objective == "binary:logistic" else base
    count = getattr(model, "best_iteration", None) if model.early_stopping_rounds else None
    last = len(held["trees"]) if count is None else (count + 1) * made.targets
    for tree, target in zip(held["trees"][:last], held["tree_info"][:last], strict=True):
        if any(tree["split_type"]):
            raise NotConverted("XGBoost with categories")
        left = np.array(tree["left_children"])
        values = np.array(tree["split_conditions"], dtype=np.float32)
        made.add(
            left,
            tree["right_children"],
            tree["split_indices"],
            values,
            tree["default_left"],
            left < 0,
            values,
            target,
        )
    return made
