"""Models become ONNX graphs that ONNX Runtime answers alike, or none."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn import ensemble, linear_model, tree
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler

from modelyard.build.pipelines import model_format, onnx_twin
from modelyard.deliver.serving import twins
from modelyard.deliver.serving.loading import load

RANDOM = np.random.default_rng(3)
ROWS = pd.DataFrame(RANDOM.normal(size=(300, 5)), columns=list("abcde"))
TWO = (ROWS["a"] + ROWS["b"] ** 2 > 1).astype(int)
THREE = np.array(["low", "middle", "high"])[np.digitize(ROWS["a"], [-0.5, 0.5])]
NUMBER = ROWS["a"] * 2 + ROWS["b"] ** 2
PREPARED = make_pipeline(SimpleImputer(), StandardScaler(), MinMaxScaler(), linear_model.LogisticRegression())
EXACT, SINGLE = 1e-12, 1e-6
"""In double precision throughout, and for XGBoost, which adds in single precision."""


@pytest.mark.parametrize(
    ("model", "answers", "within"),
    [
        (linear_model.Ridge(), NUMBER, EXACT),
        (linear_model.LogisticRegression(), TWO, EXACT),
        (linear_model.LogisticRegression(), THREE, EXACT),
        (PREPARED, TWO, EXACT),
        (tree.DecisionTreeClassifier(max_depth=4), THREE, EXACT),
        (tree.DecisionTreeRegressor(max_depth=1), NUMBER * 0, EXACT),
        (ensemble.RandomForestClassifier(8, max_depth=6), TWO, EXACT),
        (ensemble.RandomForestClassifier(8, max_depth=6), THREE, EXACT),
        (ensemble.ExtraTreesRegressor(8, max_depth=6), NUMBER, EXACT),
        (ensemble.GradientBoostingClassifier(n_estimators=10), TWO, EXACT),
        (ensemble.GradientBoostingClassifier(n_estimators=5), THREE, EXACT),
        (ensemble.GradientBoostingRegressor(n_estimators=10), NUMBER, EXACT),
        (ensemble.HistGradientBoostingClassifier(max_iter=10), TWO, EXACT),
        (ensemble.HistGradientBoostingClassifier(max_iter=5), THREE, EXACT),
        (ensemble.HistGradientBoostingRegressor(max_iter=10, loss="poisson"), np.abs(NUMBER), EXACT),
        (xgboost.XGBClassifier(n_estimators=10), TWO, SINGLE),
        (xgboost.XGBClassifier(n_estimators=5), np.digitize(ROWS["a"], [-0.5, 0.5]), SINGLE),
        (xgboost.XGBRegressor(n_estimators=10), NUMBER, SINGLE),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_twin_answers_as_its_model(tmp_path: Path, model: Any, answers: Any, within: float):
    function = model_format.served_function(model.fit(ROWS, answers))
    twin, why = onnx_twin.of(model, function, ROWS, within)
    assert twin is not None, why
    twin.write(tmp_path)
    served = twins.find(tmp_path, function)
    assert served is not None
    new = RANDOM.normal(size=(200, 5)).astype(np.float32).astype(float)
    frame = pd.DataFrame(new, columns=ROWS.columns)
    expected = getattr(model, function)(frame)
    for found in (served(new), served(frame)):
        assert found.shape == expected.shape
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(found, expected, rtol=within * 10, atol=within * 10)
        else:
            assert found.tolist() == expected.tolist()


def test_what_is_not_known_has_no_twin_and_says_so():
    model = make_pipeline(PolynomialFeatures(2), linear_model.LogisticRegression()).fit(ROWS, TWO)
    assert onnx_twin.of(model, "predict_proba", ROWS, 1e-9) == (
        None,
        "no ONNX twin: PolynomialFeatures is not converted",
    )
    texts = ROWS.assign(a="x")
    assert onnx_twin.of(model, "predict_proba", texts, 1e-9)[1] == "no ONNX twin: its inputs are not all numbers"


def test_a_twin_that_answers_otherwise_is_not_kept():
    model = linear_model.LogisticRegression().fit(ROWS, TWO)
    model.predict_proba = lambda rows: np.full((len(rows), 2), 0.5)  # such as a model somebody patched
    twin, why = onnx_twin.of(model, "predict_proba", ROWS, 1e-9)
    assert twin is None and "it answers otherwise than the model, off by 0." in why


def test_a_worker_serves_the_twin_without_the_models_library(tmp_path: Path):
    model = linear_model.LogisticRegression().fit(ROWS, TWO)
    twin, _ = onnx_twin.of(model, "predict_proba", ROWS, 1e-9)
    assert twin is not None
    model_format.save(model, tmp_path, ROWS.head(3), (twin.requirement,))
    twin.write(tmp_path)
    (tmp_path / "model.skops").unlink()  # nothing looks at it
    loaded = load(tmp_path)
    assert loaded.takes_matrix and loaded.vectorised
    np.testing.assert_allclose(loaded.predict(ROWS.to_numpy()), model.predict_proba(ROWS), rtol=1e-12)
    for value, says in ((np.nan, "contains NaN"), (np.inf, "contains infinity")):
        rows = ROWS.to_numpy().copy()
        rows[1, 2] = value
        with pytest.raises(ValueError, match=says):
            loaded.predict(rows)
    assert "onnxruntime==" in (tmp_path / "requirements.txt").read_text()
