"""Values that a model's library refuses are named to the caller."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modelyard.deliver.serving import unfit
from modelyard.deliver.serving.errors import BadInput
from modelyard.deliver.serving.mlflow_scoring import answer_mlflow
from modelyard.deliver.serving.parsed import Parsed
from modelyard.deliver.serving.signature import Column, Signature, Tensor

ROWS = pd.DataFrame({"age": [20.0, 30.0, 40.0, 50.0], "city": ["Rome", "Oslo", "Rome", "Oslo"]})
ANSWERS = [0, 0, 1, 1]
SIGNATURE = Signature((Column("age", "double", True), Column("city", "string", True)))
PREPARED = make_column_transformer((StandardScaler(), ["age"]), (OneHotEncoder(), ["city"]))


def refused(model: Any, given: Any) -> Exception:
    with pytest.raises(ValueError) as error:
        model.predict(given)
    return error.value


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"age": [30.0, float("inf")], "city": ["Rome", "Oslo"]}, "'age' is infinite in row 1"),
        ({"age": [30.0, 31.0], "city": ["Rome", "Bonn"]}, "Column 'city', row 1: the model does not know 'Bonn'."),
        (
            {"age": [30.0, 31.0], "city": ["Rome", None]},
            "Column 'city', row 1: the model takes no missing value here",
        ),
    ],
)
def test_a_value_of_a_frame_is_named(columns: Any, says: str):
    model = make_pipeline(PREPARED, LogisticRegression()).fit(ROWS, ANSWERS)
    error = refused(model, pd.DataFrame(columns).astype({"age": float}))
    found = unfit.found(Parsed(columns, 2, answer_mlflow), SIGNATURE, error)
    assert found is not None and str(found).startswith(says)


def test_a_missing_number_in_a_frame_is_the_models_failure_so_that_its_canary_is_aborted():
    model = make_pipeline(PREPARED, LogisticRegression()).fit(ROWS, ANSWERS)
    columns: dict[str, Any] = {"age": [30.0, None], "city": ["Rome", "Oslo"]}
    error = refused(model, pd.DataFrame(columns).astype({"age": float}))
    assert unfit.found(Parsed(columns, 2, answer_mlflow), SIGNATURE, error) is None


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_number_too_large_for_trees_is_named():
    model = RandomForestClassifier(3).fit(ROWS[["age"]].to_numpy(), ANSWERS)
    matrix = np.array([[30.0], [1e300]])
    found = unfit.found(
        Parsed({}, 2, answer_mlflow, matrix), Signature(SIGNATURE.columns[:1]), refused(model, matrix)
    )
    assert str(found) == "'age' is too large for single precision in row 1; this model takes finite numbers only."


def test_an_error_of_the_models_own_says_nothing_of_the_callers_values():
    parsed = Parsed({"city": ["Rome"]}, 1, answer_mlflow)
    for error in (ValueError("shapes (3,2) and (4,) not aligned"), KeyError("contains NaN")):
        assert unfit.found(parsed, SIGNATURE, error) is None


@pytest.mark.parametrize(
    ("dtype", "given", "says"),
    [
        ("float32", [[0.5, "x"]], "The input, at [0, 1]: expected a number of type float32, found text 'x'."),
        (
            "float32",
            [[1, 2], [None, 2]],
            "The input, at [1, 0]: expected a number of type float32, found nothing (null).",
        ),
        ("int64", [[1, 2.5]], "The input, at [0, 1]: expected a whole number of type int64, found number '2.5'."),
        ("int32", [[2**40, 1]], "The input, at [0, 0]: expected a whole number of type int32, found number"),
    ],
)
def test_a_value_of_a_tensor_is_named_by_its_place(dtype: str, given: Any, says: str):
    with pytest.raises(BadInput) as error:
        Tensor(dtype, (-1, 2)).array(given)
    assert str(error.value).startswith(says)
