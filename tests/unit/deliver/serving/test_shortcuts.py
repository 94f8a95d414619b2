"""Shortcuts give the model's own bits, or are not taken."""

from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.ensemble import (
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, PolynomialFeatures, RobustScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier, XGBRegressor

from modelyard.deliver.serving import shortcuts

RANDOM = np.random.default_rng(7)
ROWS = RANDOM.normal(size=(300, 5))
TWO = (ROWS[:, 0] + ROWS[:, 1] ** 2 > 1).astype(int)
NAMES = np.array(["no", "yes"])[TWO]
THREE = np.digitize(ROWS[:, 0], [-0.5, 0.5])
HOLES = np.where(RANDOM.random(ROWS.shape) < 0.2, np.nan, ROWS)
BOOSTED = {"max_iter": 15, "min_samples_leaf": 5}


def shortened(model: Any, function: str) -> Any:
    found = shortcuts.of(model, function)
    assert found != getattr(model, function), "the model's own code was kept"
    return found


@pytest.mark.parametrize(
    ("model", "function", "rows", "answers"),
    [
        (LogisticRegression(), "predict_proba", ROWS, TWO),
        (LogisticRegression(), "predict", ROWS, NAMES),
        (LogisticRegression(), "predict_proba", ROWS, THREE),
        (make_pipeline(StandardScaler(), LogisticRegression()), "predict_proba", ROWS, TWO),
        (make_pipeline(StandardScaler(with_mean=False), "passthrough", Ridge()), "predict", ROWS, ROWS[:, 0]),
        (make_pipeline(MinMaxScaler(), RidgeClassifier()), "predict", ROWS, THREE),
        (LinearRegression(), "predict", ROWS, ROWS[:, :2]),
        (HistGradientBoostingClassifier(**BOOSTED), "predict_proba", ROWS, TWO),
        (HistGradientBoostingClassifier(**BOOSTED), "predict", ROWS, NAMES),
        (HistGradientBoostingClassifier(**BOOSTED), "predict_proba", HOLES, TWO),
        (HistGradientBoostingRegressor(**BOOSTED, loss="poisson"), "predict", ROWS, np.abs(ROWS[:, 0])),
        (make_pipeline(SimpleImputer(), RobustScaler(), MaxAbsScaler(), LogisticRegression()), "predict", HOLES, TWO),
        (DecisionTreeClassifier(max_depth=4), "predict_proba", HOLES, TWO),
        (RandomForestClassifier(9), "predict_proba", ROWS, THREE),
        (RandomForestClassifier(9), "predict", HOLES, NAMES),
        (ExtraTreesRegressor(9), "predict", ROWS, ROWS[:, 0]),
        (make_pipeline(SimpleImputer(), RandomForestRegressor(9)), "predict", HOLES, ROWS[:, 0]),
        (LGBMClassifier(n_estimators=9, verbose=-1), "predict_proba", HOLES, TWO),
        (LGBMClassifier(n_estimators=9, verbose=-1), "predict", ROWS, THREE),
        (LGBMRegressor(n_estimators=9, verbose=-1), "predict", ROWS, ROWS[:, 0]),
        (XGBClassifier(n_estimators=9), "predict_proba", HOLES, TWO),
        (XGBClassifier(n_estimators=9), "predict_proba", ROWS, THREE),
        (XGBClassifier(n_estimators=9), "predict", ROWS, THREE),
        (XGBClassifier(n_estimators=9), "predict", ROWS, TWO),
        (XGBRegressor(n_estimators=9), "predict", HOLES, ROWS[:, 0]),
    ],
    ids=str,
)
def test_every_bit_is_the_models_own(model: Any, function: str, rows: Any, answers: Any):
    model.fit(rows, answers)
    short, own = shortened(model, function), getattr(model, function)
    for count in (1, 2, 5, 24, 25, 300):
        batch = RANDOM.permutation(rows)[:count]
        for ordered in (batch, np.asfortranarray(batch)):
            expected, found = own(ordered), short(ordered)
            assert expected.dtype == found.dtype and expected.shape == found.shape
            assert expected.tobytes() == found.tobytes()


@pytest.mark.parametrize(
    ("model", "function"),
    [
        (RandomForestRegressor(3), "apply"),
        (make_pipeline(PolynomialFeatures(2), LogisticRegression()), "predict"),
        (HistGradientBoostingClassifier(**BOOSTED, categorical_features=[0]), "predict_proba"),
    ],
)
def test_what_is_not_known_is_called_as_it_is(model: Any, function: str):
    model.fit(np.abs(ROWS.round()), TWO)
    assert shortcuts.of(model, function) == getattr(model, function)


def test_a_model_that_answers_otherwise_is_called_as_it_is():
    model = LogisticRegression().fit(ROWS, TWO)
    model.predict_proba = lambda rows: np.full((len(rows), 2), 0.5)  # such as a model somebody patched
    assert shortcuts.of(model, "predict_proba") is model.predict_proba


BOOSTED_PIPELINE = make_pipeline(StandardScaler(), HistGradientBoostingClassifier(**BOOSTED))


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (LogisticRegression(), np.nan),
        (LogisticRegression(), np.inf),
        (RandomForestClassifier(3), -np.inf),
        (RandomForestClassifier(3), 1e300),  # too large for the trees' single precision
        (BOOSTED_PIPELINE, np.inf),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_what_is_not_finite_is_refused_in_the_models_words(model: Any, value: float):
    short = shortened(model.fit(ROWS, TWO), "predict_proba")
    rows = ROWS[:3].copy()
    rows[1, 2] = value
    with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
        short(rows)


def test_other_inputs_go_the_models_own_way():
    model = Ridge().fit(ROWS, ROWS[:, 0])
    short = shortened(model, "predict")
    whole = ROWS[:4].round().astype(int)
    assert short(whole).tobytes() == model.predict(whole).tobytes()
    assert short(whole.tolist()).tobytes() == model.predict(whole).tobytes()
