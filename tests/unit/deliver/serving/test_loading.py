"""Model folders: checked before anything is loaded, then loaded as their flavor says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from modelyard.build.pipelines import model_format
from modelyard.deliver.serving.loading import Loaded, check_manifest, load
from modelyard.domain.errors import Conflict, Invalid
from tests.unit.deliver.serving.conftest import manifest, numeric_model, odd_model


def columns(rows: pd.DataFrame) -> dict[str, list[Any]]:
    return {str(name): rows[name].tolist() for name in rows}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model" / "code").mkdir(parents=True)
    for name in ("MLmodel", "model.skops", "code/helper.py"):
        (tmp_path / "model" / name).write_text(name)
    return tmp_path / "model"


def test_a_folder_as_approved_is_taken(folder: Path):
    check_manifest(folder, manifest(folder))


def test_a_changed_file_is_refused_by_name(folder: Path):
    approved = manifest(folder)
    (folder / "model.skops").write_text("something else")
    with pytest.raises(Conflict, match=r"model\.skops does not match its approved digest"):
        check_manifest(folder, approved)


def test_a_missing_file_is_refused_by_name(folder: Path):
    approved = manifest(folder)
    (folder / "code" / "helper.py").unlink()
    with pytest.raises(Conflict, match=r"code/helper\.py is missing or not in the manifest"):
        check_manifest(folder, approved)


def test_a_file_nobody_approved_is_refused_by_name(folder: Path):
    approved = manifest(folder)
    (folder / "code" / "numpy.py").write_text("print('mine')")
    with pytest.raises(Conflict, match=r"code/numpy\.py is missing or not in the manifest"):
        check_manifest(folder, approved)


def test_probabilities_are_served_where_the_model_says_so(tmp_path: Path):
    model, rows = numeric_model(tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict(columns(rows)), model.predict_proba(rows))


def test_mixed_columns_with_gaps_give_the_trained_models_numbers(tmp_path: Path):
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    random = np.random.default_rng(0)
    rows = pd.DataFrame({"temp": random.normal(size=300), "carrier": random.choice(["AA", "UA"], 300)})
    rows["late"] = rows["temp"] + (rows["carrier"] == "AA") > 0
    rows.loc[::5, "temp"] = np.nan
    encoder = make_column_transformer((OrdinalEncoder(), ["carrier"]), remainder="passthrough")
    model = make_pipeline(encoder, HistGradientBoostingClassifier(max_iter=5)).fit(
        rows[["temp", "carrier"]], rows["late"]
    )
    inputs = rows[["temp", "carrier"]]
    model_format.save(model, tmp_path, inputs.head(3))
    given = columns(inputs.astype(object).where(inputs.notna(), None))
    np.testing.assert_array_equal(load(tmp_path).predict(given), model.predict_proba(inputs))


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_model_written_by_the_stock_library_is_served_without_it(tmp_path: Path):
    """In a process of its own: what is imported there is what a worker imports."""
    import mlflow
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows = pd.DataFrame(np.random.default_rng(1).normal(size=(200, 3)), columns=["a", "b", "c"])
    model = HistGradientBoostingClassifier(max_iter=5).fit(rows, rows["a"] > 0)
    mlflow.sklearn.save_model(
        model,
        str(tmp_path / "model"),
        signature=mlflow.models.infer_signature(rows, model.predict(rows)),
        input_example=rows.head(2),
        pip_requirements=["scikit-learn"],
        skops_trusted_types=["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
    )
    script = (
        "import json, sys; from pathlib import Path; from modelyard.deliver.serving.loading import load\n"
        "loaded = load(Path(sys.argv[1])); given = json.loads(sys.stdin.read())\n"
        "print(json.dumps({'answer': loaded.predict(given).tolist(), 'mlflow': 'mlflow' in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "model")],
        input=json.dumps(columns(rows)),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = json.loads(done.stdout)
    assert found == {"answer": model.predict(rows).tolist(), "mlflow": False}


def test_code_of_the_model_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    loaded = in_own_path(odd_model(tmp_path / "odd", tmp_path / "gate", 3.0), monkeypatch)
    assert loaded.predict({"x": [1.0, 2.0]}) == [3.0, 6.0]


def in_own_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """The loaded model; the import path and the model's modules are put back after the test."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "odd", raising=False)
    loaded = load(folder)
    monkeypatch.delitem(sys.modules, "odd", raising=False)
    return loaded


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_another_flavor_is_loaded_through_pyfunc(tmp_path: Path):
    import mlflow

    class Sum(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input.sum(axis=1)

    rows = pd.DataFrame({"a": [1.0, 2.0], "b": [10.0, 20.0]})
    signature = mlflow.models.infer_signature(rows, pd.Series([1.0]))
    mlflow.pyfunc.save_model(
        str(tmp_path / "model"), python_model=Sum(), signature=signature, pip_requirements=["pandas"]
    )
    assert load(tmp_path / "model").predict({"b": [10, 20], "a": [1, 2]}).tolist() == [11.0, 22.0]


def test_an_unknown_format_is_refused_with_a_way_out(tmp_path: Path):
    numeric_model(tmp_path)
    described = yaml.safe_load((tmp_path / "MLmodel").read_text())
    described["flavors"]["sklearn"]["serialization_format"] = "joblib"
    (tmp_path / "MLmodel").write_text(yaml.safe_dump(described))
    with pytest.raises(Invalid, match=r"'joblib' is not known.*skops or cloudpickle"):
        load(tmp_path)


@pytest.mark.parametrize("damage", ["no MLmodel", "no yaml", "untrusted types"])
def test_a_model_that_cannot_be_loaded_is_one_of_our_errors(tmp_path: Path, damage: str):
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows = pd.DataFrame({"a": [0.0, 1.0] * 20})
    model_format.save(HistGradientBoostingClassifier(max_iter=2).fit(rows, rows["a"]), tmp_path, rows.head(2))
    described = yaml.safe_load((tmp_path / "MLmodel").read_text())
    if damage == "no MLmodel":
        (tmp_path / "MLmodel").unlink()
    elif damage == "no yaml":
        (tmp_path / "MLmodel").write_text("{")
    else:
        described["flavors"]["sklearn"]["skops_trusted_types"] = []
        (tmp_path / "MLmodel").write_text(yaml.safe_dump(described))
    with pytest.raises(Invalid):
        load(tmp_path)


@pytest.mark.parametrize("example", [{"columns": ["z"], "data": [[1]]}, {"inputs": [[1]]}])
def test_an_example_that_does_not_fit_is_no_reason_to_refuse(tmp_path: Path, example: Any):
    model, rows = numeric_model(tmp_path)
    (tmp_path / "input_example.json").write_text(json.dumps(example))
    np.testing.assert_array_equal(load(tmp_path).predict(columns(rows)), model.predict_proba(rows))


@pytest.mark.parametrize("example", [[{"a": 1.0}], {"columns": ["a", "b", "c", "d"]}])
def test_an_example_of_another_shape_is_no_reason_to_refuse(tmp_path: Path, example: Any):
    numeric_model(tmp_path)
    (tmp_path / "input_example.json").write_text(json.dumps(example))
    load(tmp_path)


def test_a_model_of_numbers_is_served_without_pandas(tmp_path: Path):
    numeric_model(tmp_path)
    script = (
        "import sys; from pathlib import Path; from modelyard.deliver.serving.loading import load\n"
        "load(Path(sys.argv[1])).predict({name: [1.0] for name in 'abcd'}); print('pandas' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"


def test_arrays_give_the_numbers_that_frames_of_the_signatures_types_give(tmp_path: Path):
    """A model that splits between 0.1 and float32(0.1): what it was trained on is on the right side."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    edge = (0.1 + float(np.float32(0.1))) / 2
    rows = pd.DataFrame({"a": [np.nextafter(edge, 0), np.nextafter(edge, 1)] * 50})
    model = HistGradientBoostingRegressor(learning_rate=1.0, max_iter=20).fit(rows, rows["a"] > edge)
    model_format.save(model, tmp_path, pd.DataFrame({"a": [0.5, 1.0]}))
    described = yaml.safe_load((tmp_path / "MLmodel").read_text())
    described["signature"]["inputs"] = json.dumps([{"name": "a", "type": "float", "required": True}])
    (tmp_path / "MLmodel").write_text(yaml.safe_dump(described))
    loaded = load(tmp_path)
    given = {"a": [0.1]}
    assert model.predict(pd.DataFrame({"a": [float(np.float32(0.1))]}))[0] > 0.9
    np.testing.assert_array_equal(loaded.predict(given), model.predict(loaded.signature.frame(given)))


@pytest.mark.parametrize("absent", ["mlflow", "sklearn"])
def test_what_is_missing_is_what_a_serving_machine_needs(tmp_path: Path, absent: str):
    folder = tmp_path / "model"
    if absent == "mlflow":
        odd_model(folder, tmp_path / "gate", flavor="python_function")
    else:
        numeric_model(folder)
    (folder / "requirements.txt").write_text("mlflow\nscikit-learn\n")
    script = "import sys; sys.modules[sys.argv[2]] = None\n"
    script += "from pathlib import Path; from modelyard.deliver.serving.loading import load; load(Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), absent], capture_output=True, text=True, check=False
    )
    said = done.stderr.strip().splitlines()[-1]
    assert absent in said and "pip install 'modelyard[serve]'" in said and "modelyard[build]" not in said
    assert f"-r {folder / 'requirements.txt'}" in said and ("mlflow-skinny" in said) == (absent == "mlflow")
