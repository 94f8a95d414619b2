"""Values that a model's library refuses are named to the caller."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
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
            "Column 'city', row 1: the model takes no missing value here; expected text, found nothing (null).",
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


TEXTS = ["the plane is late", "sunny and calm", "late again", "calm sea"] * 5


def texts_model(kind: str) -> Any:
    """A text column through TF-IDF, beside one that is encoded with its gaps."""
    frame = pd.DataFrame({"note": TEXTS, "city": ["Rome", None] * 10, "age": [1.0, 2.0] * 10})
    frame[["note", "city"]] = frame[["note", "city"]].astype(kind)
    encoder = OneHotEncoder(handle_unknown="ignore")
    prepared = make_column_transformer((TfidfVectorizer(), "note"), (encoder, ["city"]), ("passthrough", ["age"]))
    return make_pipeline(prepared, LogisticRegression()).fit(frame, [0, 1] * 10)


@pytest.mark.parametrize("kind", ["str", "object"])
def test_a_null_is_named_where_the_model_answers_once_there_is_text(kind: str):
    model = texts_model(kind)
    text = (Column("note", "string", True), Column("city", "string", True), Column("age", "double", True))

    def ask(given: dict[str, Any], signature: Signature) -> BadInput | None:
        def predict(columns: dict[str, Any]) -> Any:
            frame = pd.DataFrame(columns)
            frame[["note", "city"]] = frame[["note", "city"]].astype(kind)
            return model.predict(frame)

        return unfit.without_text(Parsed(given, 2, answer_mlflow), signature, predict)

    given: dict[str, Any] = {"note": ["late", None], "city": [None, "Rome"], "age": [1.0, 2.0]}
    assert str(ask(given, Signature(text))) == (
        "Column 'note', row 1: the model takes no missing value here; expected text, found nothing (null)."
    )
    optional = Signature((Column("note", "string", False), *text[1:]))
    assert ask(given, optional) is None  # who leaves out what may be left out has done nothing wrong
    assert ask({**given, "age": ["many", 2.0]}, Signature(text)) is None  # it raises for something else, too


def test_a_null_among_rows_that_are_texts_is_named():
    parsed = Parsed({}, 2, answer_mlflow, ["late", None])
    signature = Signature((), item=Column("", "string", True))
    found = unfit.without_text(parsed, signature, lambda texts: [len(text) for text in texts])
    assert str(found) == "Row 1: the model takes no missing value here; expected text, found nothing (null)."
