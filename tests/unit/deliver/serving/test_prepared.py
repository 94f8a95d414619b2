"""Pipelines of text and numbers without a frame: the model's own bits on whatever a request may hold."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder
from xgboost import XGBClassifier

from modelyard.deliver.serving import prepared
from modelyard.deliver.serving.bits import Unusual
from modelyard.deliver.serving.errors import BadInput
from modelyard.deliver.serving.signature import Column, Signature

RANDOM = np.random.default_rng(5)
COUNT = 300
HOLE = RANDOM.random((COUNT, 3)) < 0.1
ROWS = pd.DataFrame(
    {
        "age": np.where(HOLE[:, 0], np.nan, RANDOM.normal(40, 12, COUNT)),
        "carrier": RANDOM.choice(["AA", "B6", ""], COUNT),
        "visits": RANDOM.integers(0, 9, COUNT),
        "city": np.where(HOLE[:, 1], None, RANDOM.choice(["Rome", "Oslo", "Köln", "Łódź"], COUNT)),
        "ratio": RANDOM.random(COUNT).astype(np.float32),
        "floor": RANDOM.integers(1, 4, COUNT),
        "member": RANDOM.random(COUNT) < 0.5,
        "note": "not looked at",
    }
)
TWO = ((ROWS["age"].fillna(40) > 40) ^ (ROWS["carrier"] == "AA")).astype(int).to_numpy()
THREE = np.where(TWO, "yes", np.where(ROWS["floor"] == 1, "no", "perhaps"))
TYPES = {
    "age": "double", "carrier": "string", "visits": "long", "city": "string", "ratio": "float", "floor": "long",
    "member": "boolean", "note": "string",
}  # fmt: skip
SIGNATURE = Signature(tuple(Column(name, kind, True) for name, kind in TYPES.items()))
FILLED = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
CODED = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=np.nan)
DENSE = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
RARE = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=60, drop="first")
NUMBERS = (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["age", "visits"])
TEXT = ["carrier", "city"]
BOOSTED = {"max_iter": 9, "min_samples_leaf": 5}


def pipeline(encoder: Any, final: Any, columns: list[str] = TEXT, **options: Any) -> Any:
    return make_pipeline(make_column_transformer(NUMBERS, (encoder, columns), **options), final)


MODELS = {
    "sparse": (pipeline(FILLED, LogisticRegression(max_iter=500)), "predict_proba", TWO),
    "sparse, three": (pipeline(RARE, LogisticRegression(max_iter=500)), "predict_proba", THREE),
    "sparse, classes": (pipeline(FILLED, SGDClassifier(random_state=0), sparse_threshold=1.0), "predict", THREE),
    "whole numbers": (pipeline(DENSE, LogisticRegression(), ["floor", "member"]), "predict", TWO),
    "dense": (pipeline(DENSE, HistGradientBoostingClassifier(**BOOSTED)), "predict_proba", TWO),
    "regression": (pipeline(FILLED, Ridge(), sparse_threshold=1.0), "predict", ROWS["visits"].to_numpy() / 3),
    "coded": (pipeline(CODED, HistGradientBoostingClassifier(**BOOSTED)), "predict_proba", TWO),
    "target": (pipeline(TargetEncoder(), LogisticRegression()), "predict_proba", THREE),
    "forest": (pipeline(DENSE, ExtraTreesClassifier(9)), "predict_proba", THREE),
    "sparse forest": (pipeline(FILLED, ExtraTreesClassifier(9), sparse_threshold=1.0), "predict_proba", TWO),
    "LightGBM": (pipeline(CODED, LGBMClassifier(n_estimators=9, verbose=-1)), "predict_proba", TWO),
    "XGBoost": (pipeline(FILLED, XGBClassifier(n_estimators=9), sparse_threshold=1.0), "predict_proba", TWO),
    "mixed floats": (
        make_pipeline(
            make_column_transformer((MinMaxScaler(), ["ratio", "visits"]), (FILLED, TEXT), remainder="drop"),
            LogisticRegression(),
        ),
        "predict_proba",
        TWO,
    ),
    "no numbers": (make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()), "predict_proba", TWO),
}  # fmt: skip
FITTED: dict[str, Any] = {}

text = st.one_of(st.sampled_from(["AA", "B6", "", "Rome", "Köln"]), st.none(), st.text(max_size=6))
number = st.one_of(
    st.floats(allow_subnormal=True),
    st.none(),
    st.sampled_from([0.0, -0.0, 40.0, 1e308, -1e308, 5e-324, 2.0**53, float("inf"), float("nan")]),
)
single = st.floats(width=32, allow_nan=False, allow_infinity=False)
row = st.tuples(number, text, st.integers(-(2**63), 2**63 - 1), text, single, st.integers(-2, 6), st.booleans(), text)


def fitted(name: str) -> tuple[Any, Any, Signature]:
    """(model, its function by columns, the signature)."""
    if name not in FITTED:
        model, function, answers = MODELS[name]
        rows = ROWS[TEXT] if name == "no numbers" else ROWS
        model.fit(rows, answers)
        signature = Signature(tuple(Column(each, TYPES[each], True) for each in rows))
        short = prepared.of(model, function, signature)
        assert short is not None, "the model's own code was kept"
        FITTED[name] = getattr(model, function), short, signature
    return FITTED[name]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Found unknown categories", "ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=30, deadline=None)
@given(rows=st.lists(row, min_size=1, max_size=5))
def test_every_bit_is_the_models_own(name: str, rows: list[Any]):
    own, short, signature = fitted(name)
    columns = dict(zip(TYPES, map(list, zip(*rows, strict=True)), strict=True))
    columns = {each: columns[each] for each in signature.names}
    try:
        expected = own(signature.frame(columns))
    except ValueError:
        with pytest.raises((Unusual, ValueError, BadInput)):
            short(columns)
        return
    try:
        found = short(columns)
    except Unusual:  # it goes the model's own way
        return
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", MODELS)
def test_ordinary_rows_take_the_short_way(name: str):
    own, short, signature = fitted(name)
    columns = {each: ROWS[each].tolist() for each in signature.names}
    columns["city"] = [value if isinstance(value, str) else None for value in columns["city"]]
    columns["carrier"] = ["never seen", *columns["carrier"][1:]]
    if name == "whole numbers":
        columns["floor"] = [99, *columns["floor"][1:]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # the encoder's, of the unknown category
        assert short(columns).tobytes() == own(signature.frame(columns)).tobytes()


@pytest.mark.parametrize(
    "model",
    [
        pipeline(SimpleImputer(strategy="most_frequent", add_indicator=True), Ridge(), ["visits", "floor"]),
        make_pipeline(make_column_transformer((StandardScaler(), ["ratio"])), Ridge()),  # in single precision
        make_pipeline(ColumnTransformer([("all", CODED, TEXT)], transformer_weights={"all": 2}), Ridge()),
    ],
    ids=["indicator", "single", "weights"],
)
def test_what_is_not_known_is_called_as_it_is(model: Any):
    model.fit(ROWS.assign(city=ROWS["city"].fillna("none")), ROWS["visits"])
    assert prepared.of(model, "predict", SIGNATURE) is None


def test_an_unknown_category_that_the_model_refuses_is_named():
    model = pipeline(OneHotEncoder(), LogisticRegression(), ["carrier"]).fit(ROWS, TWO)
    short = prepared.of(model, "predict_proba", SIGNATURE)
    assert short is not None
    columns: dict[str, Any] = {name: [ROWS[name].tolist()[0]] for name in TYPES}
    short(columns)
    with pytest.raises(
        BadInput, match="Column 'carrier', row 0: the model does not know 'ZZ'; expected '', 'AA', 'B6'"
    ):
        short({**columns, "carrier": ["ZZ"]})
    with pytest.raises(Unusual):
        short({**columns, "carrier": [None]})
