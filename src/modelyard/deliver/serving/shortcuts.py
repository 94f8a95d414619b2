"""The arithmetic of common scikit-learn models without the checks around it, where both give the same bits.

A call of scikit-learn costs 0.1 to 0.2 ms before it computes anything, boosted trees 10 us more for each tree. What
is computed here is tried against the model's own answers when it is loaded, and used only where every bit agrees;
inputs that are not plain finite numbers go the model's own way, which finds the words for what is wrong with them.
"""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from modelyard.deliver.serving import boosted

Array = Any
Function = Callable[[Array], Array]
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
CHANGED = (AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError)
"""What reading another release's model may raise: then its own code predicts."""
logger = logging.getLogger("modelyard.worker")


class Unusual(Exception):
    """The rows need the model's own code."""


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
    for batch in (
        values,
        values * scales,
        np.asfortranarray(np.round(values)),
        *([] if likely is None else [likely]),
    ):
        for rows in TRIED_ROWS:
            expected, found = own(batch[:rows]), short(batch[:rows])
            if (expected.dtype, expected.shape) != (
                found.dtype,
                found.shape,
            ) or expected.tobytes() != found.tobytes():
                return False
    return True


def _short(model: Any, function: str) -> Function | None:
    if _is(model, "Pipeline"):
        *steps, (_, last) = model.steps
        transforms = [_transform(step) for _, step in steps]
        final = _short(last, function)
        if final is None or None in transforms:
            return None

        def through(rows: Array) -> Array:
            for transform in transforms:
                rows = transform(rows)  # type: ignore[misc]  # none is None, as was seen above
            return final(rows)

        return through
    if _is(model, *REGRESSORS) and function == "predict":
        return lambda rows: _scores(rows, model)
    if _is(model, *CLASSIFIERS):
        return {"predict": _classes, "predict_proba": _probabilities}[function](model)
    return boosted.short(model, function)


def _is(model: Any, *names: str) -> bool:
    return type(model).__name__ in names and type(model).__module__.startswith("sklearn.")


def _transform(step: Any) -> Function | None:
    if step == "passthrough":
        return lambda rows: rows
    if _is(step, "StandardScaler"):
        mean = step.mean_ if step.with_mean else 0.0
        scale = step.scale_ if step.with_std else 1.0
        return lambda rows: (rows - mean) / scale
    if _is(step, "MinMaxScaler") and not step.clip:
        return lambda rows: rows * step.scale_ + step.min_
    return None


def _scores(rows: Array, model: Any) -> Array:
    """Raises Unusual where a row or a product is not finite."""
    coefficients = model.coef_
    scores = rows @ (coefficients.T if coefficients.ndim == 2 else coefficients) + model.intercept_
    if not np.isfinite(scores).all():
        raise Unusual
    return scores


def _margins(rows: Array, model: Any) -> Array:
    scores = _scores(rows, model)
    return scores.reshape(-1) if scores.ndim > 1 and scores.shape[1] == 1 else scores


def _classes(model: Any) -> Function:
    def predict(rows: Array) -> Array:
        margins = _margins(rows, model)
        chosen = (margins > 0).astype(np.intp) if margins.ndim == 1 else margins.argmax(axis=1)
        return model.classes_.take(chosen, axis=0)

    return predict


def _probabilities(model: Any) -> Function | None:
    if not _is(model, "LogisticRegression", "LogisticRegressionCV"):
        return None
    from scipy.special import expit  # scikit-learn's own dependency

    def binary(rows: Array) -> Array:
        positive = expit(_margins(rows, model))
        return np.stack([1 - positive, positive], axis=1)

    def several(rows: Array) -> Array:
        margins = _scores(rows, model)
        margins -= margins.max(axis=1).reshape(-1, 1)
        np.exp(margins, out=margins)
        margins /= margins.sum(axis=1).reshape(-1, 1)
        return margins

    return binary if len(model.classes_) <= 2 else several
