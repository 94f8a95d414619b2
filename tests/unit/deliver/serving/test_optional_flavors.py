"""Flavors whose libraries are too large for the tests' own environment: run where somebody has installed them.

pip install torch catboost && pytest tests/unit/deliver/serving/test_optional_flavors.py
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard.deliver.serving.loading import load

ROWS = pd.DataFrame(np.random.default_rng(3).normal(size=(50, 3)).astype(np.float32), columns=["a", "b", "c"])
pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own


def save_module(folder: Path, kind: str, given: Any) -> Any:
    """A module as MLflow saves it; what MLflow's own loader answers for `given`."""
    torch = pytest.importorskip("torch")
    import mlflow

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(), torch.nn.Linear(4, 2)).eval()
    rows = ROWS.to_numpy()
    signature = mlflow.models.infer_signature(given, module(torch.from_numpy(rows)).detach().numpy())
    options: dict[str, Any] = (
        {"serialization_format": "pickle"} if kind != "exported" else {"input_example": rows[:2]}
    )
    saved = torch.jit.trace(module, torch.from_numpy(rows[:2])) if kind == "script" else module
    mlflow.pytorch.save_model(saved, str(folder), signature=signature, pip_requirements=["torch"], **options)
    return mlflow.pyfunc.load_model(str(folder)).predict(given)


@pytest.mark.parametrize("kind", ["pickled", "script", "exported"])
def test_a_module_answers_as_by_mlflow(tmp_path: Path, kind: str):
    expected = save_module(tmp_path / "m", kind, ROWS.to_numpy())
    loaded = load(tmp_path / "m")
    assert loaded.vectorised
    rows = ROWS.to_numpy()
    np.testing.assert_array_equal(loaded.predict(rows), expected)
    np.testing.assert_allclose(loaded.predict(rows[:1]), expected[:1], rtol=1e-5)  # PyTorch adds in another order


def test_a_module_of_columns_answers_named_columns(tmp_path: Path):
    expected = save_module(tmp_path / "m", "script", ROWS)
    loaded = load(tmp_path / "m")
    assert loaded.takes_matrix
    found = loaded.predict({name: ROWS[name].tolist() for name in ROWS})
    assert list(found) == ["0", "1"]
    np.testing.assert_array_equal(np.stack([*found.values()], axis=1), expected.to_numpy())


def test_a_worker_of_a_module_imports_no_mlflow(tmp_path: Path):
    save_module(tmp_path / "m", "script", ROWS)
    script = (
        "import sys; from pathlib import Path; from modelyard.deliver.serving.loading import load\n"
        "load(Path(sys.argv[1])); assert 'torch' in sys.modules and 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "m")], check=True, timeout=90)


def test_catboost_takes_text_and_numbers(tmp_path: Path):
    catboost = pytest.importorskip("catboost")
    import mlflow

    rows = ROWS.astype(float).assign(d=np.where(ROWS["a"] > 0, "x", "y"))
    model = catboost.CatBoostClassifier(iterations=9, cat_features=["d"], verbose=False, allow_writing_files=False)
    model.fit(rows, (rows["b"] > 0).astype(int))
    signature = mlflow.models.infer_signature(rows, model.predict(rows))
    mlflow.catboost.save_model(model, str(tmp_path / "m"), signature=signature, pip_requirements=["catboost"])
    loaded = load(tmp_path / "m")
    expected = mlflow.pyfunc.load_model(str(tmp_path / "m")).predict(rows)
    np.testing.assert_array_equal(loaded.predict({name: rows[name].tolist() for name in rows}), expected)
