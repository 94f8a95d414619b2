"""What stock `mlflow` does to log, search, register and load, unchanged, against our server."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.exceptions import MlflowException, RestException
from requests.exceptions import HTTPError
from sklearn.linear_model import LogisticRegression

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 3))
    return features, (features[:, 0] + random.normal(scale=0.3, size=200) > 0).astype(int)


def test_autolog_register_alias_load(mlflow: Any, data: tuple[Any, Any]) -> None:
    mlflow.set_experiment("autolog")
    mlflow.sklearn.autolog(log_models=False)
    with mlflow.start_run(run_name="first") as run:
        model = LogisticRegression(C=0.5).fit(*data)
        needs = ["scikit-learn"]
        logged = mlflow.sklearn.log_model(model, name="model", pip_requirements=needs, input_example=data[0][:2])
    mlflow.sklearn.autolog(disable=True)
    found = mlflow.get_run(run.info.run_id)
    assert found.data.params["C"] == "0.5"
    assert found.data.metrics["training_accuracy_score"] > 0.8
    assert found.info.status == "FINISHED"
    version = mlflow.register_model(logged.model_uri, "autologged")
    assert version.version in ("1", 1)
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("autologged", "champion", version.version)
    assert client.get_model_version_by_alias("autologged", "champion").run_id == run.info.run_id
    loaded = mlflow.pyfunc.load_model("models:/autologged@champion")
    assert (loaded.predict(data[0]) == model.predict(data[0])).all()
    by_run = mlflow.register_model(f"runs:/{run.info.run_id}/model", "autologged")
    assert int(by_run.version) == 2
    assert (mlflow.sklearn.load_model("models:/autologged/2").predict(data[0]) == model.predict(data[0])).all()


def test_search_runs_filters_orders_and_pages(mlflow: Any) -> None:
    mlflow.set_experiment("search")
    for number in range(12):
        with mlflow.start_run(run_name=f"r{number}"):
            mlflow.log_params({"depth": number % 3, "team": "a'b"})
            mlflow.log_metrics({"auc": number / 12, "val/loss": 1 - number / 12})
            mlflow.set_tag("color.shade", "red" if number % 2 else "blue")
    wanted = "metrics.auc >= 0.5 AND params.depth = '1'"
    found = mlflow.search_runs(filter_string=wanted, order_by=["metrics.auc DESC"])
    assert list(found["tags.mlflow.runName"]) == ["r10", "r7"]
    assert len(mlflow.search_runs(filter_string="tags.`color.shade` = 'red'")) == 6
    assert len(mlflow.search_runs(filter_string='metrics."val/loss" < 0.5')) == 5
    assert len(mlflow.search_runs(filter_string="attributes.run_name LIKE 'r1%'")) == 3
    assert len(mlflow.search_runs(filter_string="params.depth IN ('0', '2')")) == 8
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("search")
    pages, token = [], None
    while True:
        page = client.search_runs([experiment.experiment_id], max_results=5, page_token=token)
        pages.append(len(page))
        token = page.token
        if not token:
            break
    assert pages == [5, 5, 2]
    with pytest.raises(MlflowException, match="Invalid filter"):
        mlflow.search_runs(filter_string="metrics.auc >> 1")


def test_metric_histories_keep_order_and_special_values(mlflow: Any) -> None:
    mlflow.set_experiment("metrics")
    with mlflow.start_run() as run:
        for step, value in enumerate([1.0, float("nan"), float("inf"), -float("inf"), 0.5]):
            mlflow.log_metric("loss", value, step=step)
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == [0, 1, 2, 3, 4]
    assert math.isnan(history[1].value) and history[2].value == math.inf and history[3].value == -math.inf
    assert mlflow.get_run(run.info.run_id).data.metrics["loss"] == 0.5


def test_a_batch_is_all_or_nothing(mlflow: Any) -> None:
    from mlflow.entities import Metric, Param

    mlflow.set_experiment("batches")
    client = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        run_id = run.info.run_id
        client.log_batch(run_id, metrics=[Metric(f"m{n}", n, 0, 0) for n in range(1000)], params=[Param("a", "1")])
        with pytest.raises(MlflowException):
            client.log_batch(run_id, metrics=[Metric("late", 1, 0, 0)], params=[Param("a", "2")])
    found = mlflow.get_run(run_id).data
    assert len(found.metrics) == 1000 and found.params == {"a": "1"}


def test_artifacts_up_list_and_down(mlflow: Any, tmp_path: Path) -> None:
    mlflow.set_experiment("artifacts")
    big = tmp_path / "big.bin"
    big.write_bytes(np.random.default_rng(0).bytes(20 << 20))
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(big), "data")
        mlflow.log_text("hello", "notes/a b%c.txt")
        mlflow.log_dict({"a": 1}, "d.json")
    client = mlflow.MlflowClient()
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {"data", "notes", "d.json"}
    assert [item.path for item in client.list_artifacts(run.info.run_id, "notes")] == ["notes/a b%c.txt"]
    got = Path(client.download_artifacts(run.info.run_id, "data/big.bin", str(tmp_path)))
    assert got.read_bytes() == big.read_bytes()
    assert Path(client.download_artifacts(run.info.run_id, "notes", str(tmp_path))).is_dir()


def test_errors_raise_what_clients_expect(mlflow: Any) -> None:
    client = mlflow.MlflowClient()
    assert client.get_experiment_by_name("nothing") is None
    with pytest.raises(RestException) as caught:
        client.get_run("0" * 32)
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    client.create_registered_model("twice")
    with pytest.raises(RestException) as caught:
        client.create_registered_model("twice")
    assert caught.value.error_code == "RESOURCE_ALREADY_EXISTS"
    with pytest.raises(MlflowException):
        client.create_model_version("twice", "file:///etc/passwd", None)
    with pytest.raises(MlflowException):
        client.get_model_version_by_alias("twice", "champion")


def test_nested_runs_tags_and_deletion(mlflow: Any) -> None:
    mlflow.set_experiment("nested")
    with mlflow.start_run() as parent, mlflow.start_run(nested=True) as child:
        mlflow.set_tag("a", "1")
    client = mlflow.MlflowClient()
    assert client.get_run(child.info.run_id).data.tags["mlflow.parentRunId"] == parent.info.run_id
    client.delete_tag(child.info.run_id, "a")
    assert "a" not in client.get_run(child.info.run_id).data.tags
    client.delete_run(child.info.run_id)
    assert len(mlflow.search_runs()) == 1
    client.restore_run(child.info.run_id)
    assert len(mlflow.search_runs()) == 2


def test_a_registered_versions_files_are_immutable(mlflow: Any, data: tuple[Any, Any], tmp_path: Path) -> None:
    mlflow.set_experiment("immutable")
    with mlflow.start_run():
        model = LogisticRegression().fit(*data)
        logged = mlflow.sklearn.log_model(model, name="model", pip_requirements=["scikit-learn"])
    mlflow.register_model(logged.model_uri, "fixed")
    changed = tmp_path / "MLmodel"
    changed.write_text("other: true")
    with pytest.raises(HTTPError, match="immutable"):
        mlflow.MlflowClient().log_model_artifact(logged.model_id, str(changed))
