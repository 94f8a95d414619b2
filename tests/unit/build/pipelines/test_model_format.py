"""Our model folders are MLflow's: the stock library loads them, checks their signature and predicts the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from modelyard.build.pipelines import model_format
from modelyard.domain.errors import Invalid


@pytest.fixture
def rows() -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "carrier": random.choice(["AA", "UA", "HA"], 400),
            "hour": random.integers(0, 24, 400),
            "temp": random.normal(size=400),
            "big": random.random(400) > 0.5,
        }
    )
    frame.loc[::7, "temp"] = np.nan
    return frame.assign(late=((frame["hour"] > 12) ^ (frame["carrier"] == "HA")).astype(int))


INPUTS = ["carrier", "hour", "temp", "big"]


def boosted(rows: pd.DataFrame, kind: Any = HistGradientBoostingClassifier) -> Any:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encoder, ["carrier"]), ("passthrough", INPUTS[1:]))
    return make_pipeline(columns, kind(max_iter=10, random_state=0)).fit(rows[INPUTS], rows["late"])


@pytest.mark.parametrize("kind", [HistGradientBoostingClassifier, HistGradientBoostingRegressor])
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_the_stock_library_loads_and_predicts_the_same(tmp_path: Path, rows: pd.DataFrame, kind: Any):
    import mlflow

    model = boosted(rows, kind)
    model_format.save(model, tmp_path, rows[INPUTS].head(5))
    loaded = mlflow.pyfunc.load_model(str(tmp_path))
    wanted = model.predict_proba(rows[INPUTS]) if hasattr(model, "predict_proba") else model.predict(rows[INPUTS])
    np.testing.assert_array_equal(np.asarray(loaded.predict(rows[INPUTS])), wanted)
    assert [column.name for column in loaded.metadata.signature.inputs.inputs] == INPUTS
    kinds = [column.type.name for column in loaded.metadata.signature.inputs.inputs]
    assert kinds == ["string", "long", "double", "boolean"]
    with pytest.raises(mlflow.exceptions.MlflowException, match="schema"):
        loaded.predict(rows[["carrier", "hour"]])
    example = loaded.input_example
    assert list(example.columns) == INPUTS and len(example) == 5


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_the_stock_sklearn_flavor_loads(tmp_path: Path, rows: pd.DataFrame):
    import mlflow

    model = boosted(rows)
    model_format.save(model, tmp_path, rows[INPUTS].head(5))
    back = mlflow.sklearn.load_model(str(tmp_path))
    np.testing.assert_array_equal(back.predict_proba(rows[INPUTS]), model.predict_proba(rows[INPUTS]))


@pytest.mark.parametrize("kind", [LogisticRegression, RandomForestClassifier])
def test_a_round_trip_of_our_own(tmp_path: Path, rows: pd.DataFrame, kind: Any):
    model = kind().fit(rows[["hour"]], rows["late"])
    model_format.save(model, tmp_path, rows[["hour"]].head(2))
    back = model_format.load(tmp_path)
    np.testing.assert_array_equal(back.predict_proba(rows[["hour"]]), model.predict_proba(rows[["hour"]]))


def test_the_example_survives_missing_values(tmp_path: Path, rows: pd.DataFrame):
    model_format.save(boosted(rows), tmp_path, rows[INPUTS].head(1))
    example = json.loads((tmp_path / "serving_input_example.json").read_text())
    assert example["dataframe_split"]["data"][0][2] is None


def test_what_is_no_estimator_is_refused(tmp_path: Path, rows: pd.DataFrame):
    with pytest.raises(Invalid, match="not dict") as error:
        model_format.save({}, tmp_path / "model", rows)
    assert "mlflow" in error.value.remedy
    assert not (tmp_path / "model").exists()


def test_another_format_is_refused(tmp_path: Path):
    (tmp_path / "MLmodel").write_text("flavors:\n  sklearn:\n    serialization_format: cloudpickle\n")
    with pytest.raises(Invalid, match="skops"):
        model_format.load(tmp_path)
