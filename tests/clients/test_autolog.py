"""Other libraries' autolog against our server: what a fit logs is there afterwards, and the model loads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 3))
    return features, (features[:, 0] + random.normal(scale=0.3, size=200) > 0).astype(int)


def test_scikit_learn_grid_search(mlflow: Any, data: tuple[Any, Any]) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    mlflow.set_experiment("grid")
    mlflow.sklearn.autolog(log_models=False, log_post_training_metrics=False)
    with mlflow.start_run() as run:
        GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(*data)
    mlflow.sklearn.autolog(disable=True)
    found = mlflow.get_run(run.info.run_id)
    assert "best_C" in found.data.params and found.data.metrics["best_cv_score"] > 0.7
    children = mlflow.search_runs(filter_string=f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
    assert len(children) == 2


def test_xgboost(mlflow: Any, data: tuple[Any, Any]) -> None:
    xgboost = pytest.importorskip("xgboost")
    mlflow.set_experiment("xgboost")
    mlflow.xgboost.autolog(log_models=False)
    matrix = xgboost.DMatrix(data[0], label=data[1])
    with mlflow.start_run() as run:
        xgboost.train({"objective": "binary:logistic"}, matrix, 5, evals=[(matrix, "train")], verbose_eval=False)
    mlflow.xgboost.autolog(disable=True)
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "train-logloss")
    assert [point.step for point in history] == [0, 1, 2, 3, 4]
    assert mlflow.get_run(run.info.run_id).data.params["objective"] == "binary:logistic"


def test_lightgbm(mlflow: Any, data: tuple[Any, Any]) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    mlflow.set_experiment("lightgbm")
    mlflow.lightgbm.autolog(log_models=False)
    with mlflow.start_run() as run:
        train = lightgbm.Dataset(data[0], data[1])
        lightgbm.train({"objective": "binary", "verbose": -1}, train, 5, valid_sets=[train], valid_names=["train"])
    mlflow.lightgbm.autolog(disable=True)
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "train-binary_logloss")
    assert len(history) == 5


def test_statsmodels(mlflow: Any, data: tuple[Any, Any]) -> None:
    pytest.importorskip("statsmodels")
    import statsmodels.api as sm

    mlflow.set_experiment("statsmodels")
    mlflow.statsmodels.autolog(log_models=False)
    with mlflow.start_run() as run:
        sm.OLS(data[1], sm.add_constant(data[0])).fit()
    mlflow.statsmodels.autolog(disable=True)
    assert mlflow.get_run(run.info.run_id).data.metrics["rsquared"] > 0.3


def test_a_models_needs_are_inferred_once(
    mlflow: Any, data: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mlflow.utils import requirements_utils
    from sklearn.linear_model import LogisticRegression

    monkeypatch.setenv("HOME", str(tmp_path))  # nothing is remembered there yet: the first answer is MLflow's own
    loading = requirements_utils._capture_imported_modules  # what takes MLflow its 10 s
    loaded: list[str] = []

    def counted(model_uri: str, *given: Any, **options: Any) -> Any:
        loaded.append(model_uri)
        return loading(model_uri, *given, **options)

    monkeypatch.setattr(requirements_utils, "_capture_imported_modules", counted)
    experiment = mlflow.set_experiment("quick")
    mlflow.sklearn.autolog()
    for _ in range(2):
        with mlflow.start_run():
            LogisticRegression().fit(*data)
        assert len(loaded) == 1
    mlflow.sklearn.autolog(disable=True)
    models = mlflow.search_logged_models([experiment.experiment_id], output_format="list")
    needs = [mlflow.artifacts.load_text(f"{model.artifact_location}/requirements.txt") for model in models]
    assert len(needs) == 2 and needs[0] == needs[1] and "scikit-learn==" in needs[0]
    assert list((tmp_path / ".cache" / "modelyard" / "requirements").glob("*.json"))
    plain = mlflow.sklearn.log_model(
        LogisticRegression().fit(*data), name="plain", serialization_format="cloudpickle"
    )
    assert len(loaded) == 1  # of the same kind, logged without a run and an example
    assert mlflow.pyfunc.load_model(plain.model_uri).predict(data[0][:2]).shape == (2,)
