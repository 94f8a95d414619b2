"""Fast paths by flavor: the library's own predictor on arrays gives what the stock loader gives on frames."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard.deliver.serving.errors import BadInput
from modelyard.deliver.serving.loading import load
from modelyard.deliver.serving.mlflow_scoring import parse_invocation

ROWS = pd.DataFrame(np.random.default_rng(3).normal(size=(300, 4)), columns=["a", "b", "c", "d"])
LABELS = (ROWS["a"] + ROWS["b"] * ROWS["c"] > 0).astype(int)
pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own


def columns(rows: pd.DataFrame) -> dict[str, list[Any]]:
    return {str(name): rows[name].tolist() for name in rows}


def check(folder: Path) -> None:
    """Ours takes arrays and agrees with MLflow's own loader."""
    import mlflow

    loaded = load(folder)
    expected = mlflow.pyfunc.load_model(str(folder)).predict(ROWS)
    assert loaded.takes_matrix and loaded.vectorised
    np.testing.assert_array_equal(loaded.predict(columns(ROWS)), np.asarray(expected))
    np.testing.assert_array_equal(loaded.predict(loaded.signature.matrix(columns(ROWS))), np.asarray(expected))


@pytest.mark.parametrize("kind", ["classifier", "regressor", "booster"])
def test_xgboost(tmp_path: Path, kind: str):
    import mlflow
    import xgboost

    if kind == "booster":
        model: Any = xgboost.train({"max_depth": 3}, xgboost.DMatrix(ROWS, LABELS), 10)
        output: Any = model.predict(xgboost.DMatrix(ROWS))
    else:
        made = xgboost.XGBClassifier if kind == "classifier" else xgboost.XGBRegressor
        model = made(n_estimators=10, max_depth=3).fit(ROWS, LABELS)
        output = model.predict(ROWS)
    signature = mlflow.models.infer_signature(ROWS, output)
    mlflow.xgboost.save_model(model, str(tmp_path / "m"), signature=signature, pip_requirements=["xgboost"])
    check(tmp_path / "m")


@pytest.mark.parametrize("kind", ["classifier", "booster"])
def test_lightgbm(tmp_path: Path, kind: str):
    import lightgbm
    import mlflow

    if kind == "booster":
        data = lightgbm.Dataset(ROWS, LABELS)
        model: Any = lightgbm.train({"objective": "binary", "verbose": -1}, data, 10)
    else:
        model = lightgbm.LGBMClassifier(n_estimators=10, verbose=-1).fit(ROWS, LABELS)
    signature = mlflow.models.infer_signature(ROWS, model.predict(ROWS))
    mlflow.lightgbm.save_model(model, str(tmp_path / "m"), signature=signature, pip_requirements=["lightgbm"])
    check(tmp_path / "m")


def test_columns_in_another_order_than_trained_are_not_mixed_up(tmp_path: Path):
    """The signature lists them the other way round: the model gets a frame, or refuses; never the wrong columns."""
    import mlflow
    import xgboost

    model = xgboost.XGBRegressor(n_estimators=10, max_depth=3).fit(ROWS, LABELS)
    turned = ROWS[["d", "c", "b", "a"]]
    signature = mlflow.models.infer_signature(turned, model.predict(ROWS))
    mlflow.xgboost.save_model(model, str(tmp_path / "m"), signature=signature, pip_requirements=["xgboost"])
    loaded = load(tmp_path / "m")
    assert not loaded.takes_matrix
    with pytest.raises(ValueError, match="feature_names"):
        loaded.predict(columns(turned))


def test_models_of_arrays_take_plain_rows(tmp_path: Path):
    """What autolog writes for a model that was trained on an array."""
    import mlflow
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(ROWS.to_numpy(), LABELS)
    signature = mlflow.models.infer_signature(ROWS.to_numpy(), model.predict(ROWS.to_numpy()))
    mlflow.sklearn.save_model(model, str(tmp_path / "m"), signature=signature, pip_requirements=["scikit-learn"])
    loaded = load(tmp_path / "m")
    tensor = loaded.signature.one_tensor
    assert tensor is not None and tensor.shape == (-1, 4)
    np.testing.assert_array_equal(
        loaded.predict(tensor.array(ROWS.to_numpy().tolist())), model.predict(ROWS.to_numpy())
    )


def test_scikit_learn_is_imported_without_pandas_which_still_works_afterwards(tmp_path: Path):
    script = (
        "import sys; from modelyard.deliver.serving.flavors import import_sklearn; import_sklearn()\n"
        "assert 'sklearn' in sys.modules and 'pandas' not in sys.modules\n"
        "import pandas as pd; from sklearn.preprocessing import StandardScaler\n"
        "found = StandardScaler().set_output(transform='pandas').fit_transform(pd.DataFrame({'a': [1.0, 3.0]}))\n"
        "print(type(found).__name__, list(found['a']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=90)
    assert done.stdout.strip() == "DataFrame [-1.0, 1.0]"


def exported(folder: Path) -> Any:
    """scikit-learn's logistic regression on ROWS as skl2onnx 1.20 writes it, logged by stock MLflow; its frame of
    answers.
    """
    import mlflow
    import onnx

    model = onnx.load(str(Path(__file__).parent / "exported" / "logistic.onnx"))
    signature = mlflow.models.infer_signature(ROWS.astype(np.float32))
    mlflow.onnx.save_model(model, str(folder), signature=signature, pip_requirements=["onnxruntime"])
    return mlflow.pyfunc.load_model(str(folder)).predict(ROWS.astype(np.float32))


def test_an_exported_onnx_model(tmp_path: Path):
    expected = exported(tmp_path / "m")
    loaded = load(tmp_path / "m")
    assert loaded.takes_matrix and loaded.vectorised
    found = loaded.predict(loaded.signature.matrix(columns(ROWS)))
    np.testing.assert_array_equal(found["output_label"], np.asarray(expected["output_label"]))
    chances = pd.DataFrame(list(expected["output_probability"]))
    np.testing.assert_array_equal(found["output_probability"], chances)
    right = (found["output_label"] == LABELS).mean()
    assert right > 0.6, "the model is not of these rows"


TEXTS = ROWS.assign(
    e=np.random.default_rng(4).choice(["red", "green", ""], len(ROWS)), f=np.where(ROWS["b"] > 1, None, "x")
)
CATEGORIES = TEXTS.astype({"e": "category", "f": "category"})
ASKED = {**columns(TEXTS), "f": [value if isinstance(value, str) else None for value in TEXTS["f"]]}


def saved_with_categories(folder: Path, library: str, kind: str) -> Any:
    """A model of categories as people train it on a frame; its answers on TEXTS."""
    import lightgbm
    import mlflow
    import xgboost

    if library == "xgboost":
        data: Any = xgboost.DMatrix(CATEGORIES, LABELS, enable_categorical=True)
        booster = xgboost.train({"max_depth": 3}, data, 9) if kind == "booster" else None
        model: Any = booster or xgboost.XGBClassifier(n_estimators=9, enable_categorical=True).fit(CATEGORIES, LABELS)
        expected = model.predict(data if booster else CATEGORIES)
    else:
        data = lightgbm.Dataset(CATEGORIES, LABELS)
        booster = lightgbm.train({"objective": "binary", "verbose": -1}, data, 9) if kind == "booster" else None
        model = booster or lightgbm.LGBMClassifier(n_estimators=9, verbose=-1).fit(CATEGORIES, LABELS)
        expected = model.predict(CATEGORIES)
    signature = mlflow.models.infer_signature(CATEGORIES, expected)
    getattr(mlflow, library).save_model(model, str(folder), signature=signature, pip_requirements=[library])
    return expected


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
@pytest.mark.parametrize("kind", ["classifier", "booster"])
def test_categories_are_asked_for_as_text(tmp_path: Path, library: str, kind: str):
    expected = saved_with_categories(tmp_path / "m", library, kind)
    loaded = load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.predict(ASKED), expected)
    one = {name: values[7:8] for name, values in ASKED.items()}
    np.testing.assert_array_equal(loaded.predict(one), expected[7:8])
    strange = {**one, "e": ["blue"]}
    if library == "xgboost":
        with pytest.raises(
            BadInput, match="Column 'e', row 0: the model does not know 'blue'; expected '', 'green', 'red'"
        ):
            loaded.predict(strange)
    else:
        np.testing.assert_array_equal(loaded.predict(strange), loaded.predict({**one, "e": [None]}))


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_categories_take_a_short_way(tmp_path: Path, library: str):
    import yaml

    from modelyard.deliver.serving import flavors, signature

    saved_with_categories(tmp_path / "m", library, "classifier")
    described = yaml.safe_load((tmp_path / "m" / "MLmodel").read_text())
    known = signature.parse(described)
    model = flavors.open_model(tmp_path / "m", described, known)
    assert model.by_columns is not None
    odd = {**{name: values[:4] for name, values in ASKED.items()}, "a": [0.0, -0.0, 1e308, float("nan")]}
    np.testing.assert_array_equal(model.by_columns(odd), model.predict(known.frame(odd)))


def saved(folder: Path, model: Any, signature: Any = None) -> Any:
    """The model, saved as MLflow's pyfunc and loaded by us."""
    import mlflow

    mlflow.pyfunc.save_model(str(folder), python_model=model, signature=signature, pip_requirements=["mlflow"])
    return load(folder)


def test_a_pyfunc_gets_what_mlflow_checks_signatures_for(tmp_path: Path):
    """Times without a zone, no optional column that nobody gave, lists of numbers with a point, bytes."""
    import mlflow
    from mlflow.types.schema import Array, ColSpec, Schema

    class Shown(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            return [str(row) for row in model_input.to_dict("records")]

    columns = [
        ColSpec("datetime", "when"),
        ColSpec("long", "n", required=False),
        ColSpec("boolean", "flag", required=False),
        ColSpec(Array("double"), "vector", required=False),
        ColSpec("binary", "blob", required=False),
        ColSpec("double", "x", required=False),
    ]
    loaded = saved(tmp_path / "m", Shown(), mlflow.models.ModelSignature(Schema(columns)))

    def shown(**given: Any) -> str:
        return loaded.predict(loaded.signature.take({name: [value] for name, value in given.items()}, 1))[0]

    time = "'when': Timestamp('2026-01-31 10:00:00')"
    assert shown(when="2026-01-31T12:00:00+02:00") == f"{{{time}, 'x': nan}}"
    assert shown(when="2026-01-31T10:00:00", n=3) == f"{{{time}, 'n': 3, 'x': nan}}"
    given = shown(when="2026-01-31T10:00:00Z", flag=True, vector=[1, 2], blob="YWI=", x=1)
    assert given == f"{{{time}, 'flag': True, 'vector': [1.0, 2.0], 'blob': b'ab', 'x': 1.0}}"


def test_a_pyfunc_whose_type_hint_is_a_list(tmp_path: Path):
    import mlflow

    class Lengths(mlflow.pyfunc.PythonModel):
        def predict(self, model_input: list[str]) -> list[int]:
            return [len(text) for text in model_input]

    loaded = saved(tmp_path / "m", Lengths())
    parsed = parse_invocation(b'{"inputs": ["a", "bcd"]}', "application/json", loaded.signature)
    assert loaded.predict(parsed.matrix) == [1, 3]
