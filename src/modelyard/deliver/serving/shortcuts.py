"""The arithmetic of common models without the checks around it, where both give the same bits.

A call of scikit-learn costs 0.1 to 0.2 ms before it computes anything, boosted trees 10 us more for each tree. What
is computed here is tried against the model's own answers when it is loaded, and used only where every bit agrees;
inputs that are not plain finite numbers go the model's own way, which finds the words for what is wrong with them.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from modelyard.deliver.serving import boosted, boosters, forests
from modelyard.deliver.serving.bits import Array, Function, Unusual, alike, is_a, through

REGRESSORS = (
    "LinearRegression",
    "Ridge",
    "RidgeCV",
    "Lasso",
    "LassoCV",
    "ElasticNet",
    "ElasticNetCV",
    "SGDRegressor",
)
CLASSIFIERS = ("LogisticRegression", "LogisticRegressionCV", "RidgeClassifier", "SGDClassifier", "LinearSVC")
TRIED_ROWS = (1, 2, 8, 33)
HOLES = 0.1
"""Share of missing values in one of the tried batches."""
CHANGED = (AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError)
"""What reading another release's model may raise: then its own code predicts."""
logger = logging.getLogger("modelyard.worker")


def of(model: Any, function: str) -> Function:
    """The model's function, shortened where that gives the same bits."""
    own: Function = getattr(model, function)
    try:
        short = _short(model, function)
        if short is None or not _same(own, short, model):
            return own
    except CHANGED as error:
        logger.info("%s is called as it is: %s: %s", type(model).__name__, type(error).__name__, error)
        return own

    def predict(rows: Array) -> Array:
        if type(rows) is not np.ndarray or rows.dtype != np.float64:
            return own(rows)
        try:
            return short(rows)
        except Unusual:
            return own(rows)

    return predict


def _same(own: Function, short: Function, model: Any) -> bool:
    """Whether both answer every tried batch with the same type, shape and bits."""
    random = np.random.default_rng(0)
    values = random.normal(size=(max(TRIED_ROWS), model.n_features_in_))
    scales = 10.0 ** random.uniform(-2, 4, size=values.shape[1])
    likely = boosted.near_thresholds(model, values.shape, random)
    holes = np.where(random.random(values.shape) < HOLES, np.nan, values)
    batches = (values, values * scales, np.asfortranarray(np.round(values)), holes)
    return all(
        alike(own, short, batch[:rows])
        for batch in (*batches, *([] if likely is None else [likely]))
        for rows in TRIED_ROWS
    )


def _short(model: Any, function: str) -> Function | None:
    if is_a(model, "Pipeline"):
        *steps, (_, last) = model.steps
        transforms = transforms_of([step for _, step in steps])
        final = _short(last, function)
        if final is None or transforms is None:
            return None
        return lambda rows: final(through(transforms, rows))
    finish = linear(model, function)
    if finish is not None:
        return lambda rows: finish(finite(rows @ transposed(model) + model.intercept_))
    for known in (forests, boosted, boosters):
        short = known.short(model, function)
        if short is not None:
            return short
    return None


def transforms_of(steps: Sequence[Any]) -> list[Function] | None:
    """What the steps compute, one after the other; None where one is not known."""
    found = [_transform(step) for step in steps]
    return None if None in found else [each for each in found if each is not None]


def _transform(step: Any) -> Function | None:
    if step == "passthrough" or (is_a(step, "FunctionTransformer") and step.func is None):
        return lambda rows: rows
    if is_a(step, "SimpleImputer"):
        return _imputing(step)
    if is_a(step, "RobustScaler"):
        centre = step.center_ if step.with_centering else 0.0
        width = step.scale_ if step.with_scaling else 1.0
        return lambda rows: (rows - centre) / width
    if is_a(step, "MaxAbsScaler") and not getattr(step, "clip", False):
        return lambda rows: rows / step.scale_
    if is_a(step, "StandardScaler"):
        mean = step.mean_ if step.with_mean else 0.0
        scale = step.scale_ if step.with_std else 1.0
        return lambda rows: (rows - mean) / scale
    if is_a(step, "MinMaxScaler") and not step.clip:
        return lambda rows: rows * step.scale_ + step.min_
    return None


def _imputing(step: Any) -> Function | None:
    known = step.statistics_.dtype == np.float64 and not np.isnan(step.statistics_).any()
    only_nan = step.missing_values != step.missing_values  # no `is`: it came out of a file
    if not known or not only_nan or step.add_indicator:
        return None
    return lambda rows: np.where(np.isnan(rows), step.statistics_, rows)


def transposed(model: Any) -> Array:
    """A linear model's coefficients, shape (features,) or (features, classes)."""
    return model.coef_.T if model.coef_.ndim == 2 else model.coef_


def finite(scores: Array) -> Array:
    """The scores. Raises Unusual where a row or a product is not finite."""
    if not np.isfinite(scores).all():
        raise Unusual
    return scores


def linear(model: Any, function: str) -> Function | None:
    """From a linear model's scores to its answers; None for other models."""
    if is_a(model, *REGRESSORS) and function == "predict":
        return lambda scores: scores
    if not is_a(model, *CLASSIFIERS):
        return None
    return {"predict": _classes, "predict_proba": _probabilities}[function](model)


def _margins(scores: Array) -> Array:
    return scores.reshape(-1) if scores.ndim > 1 and scores.shape[1] == 1 else scores


def _classes(model: Any) -> Function:
    def predict(scores: Array) -> Array:
        margins = _margins(scores)
        chosen = (margins > 0).astype(np.intp) if margins.ndim == 1 else margins.argmax(axis=1)
        return model.classes_.take(chosen, axis=0)

    return predict


def _probabilities(model: Any) -> Function | None:
    if not is_a(model, "LogisticRegression", "LogisticRegressionCV"):
        return None
    from scipy.special import expit  # scikit-learn's own dependency

    def binary(scores: Array) -> Array:
        positive = expit(_margins(scores))
        return np.stack([1 - positive, positive], axis=1)

    def several(scores: Array) -> Array:
        scores -= scores.max(axis=1).reshape(-1, 1)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1).reshape(-1, 1)
        return scores

    return binary if len(model.classes_) <= 2 else several
