"""What the stock client does beside single calls: tracing, evaluating, async and system metrics, URIs of models."""

import os
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from sklearn.linear_model import LogisticRegression

from tests.conftest import RunningServer, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 3))
    return features, (features[:, 0] + random.normal(scale=0.3, size=200) > 0).astype(int)


@pytest.fixture(scope="module")
def logged(mlflow: Any, data: tuple[Any, Any]) -> Any:
    """(run id, model info) of a model that was logged in a run."""
    mlflow.set_experiment("features")
    with mlflow.start_run() as run:
        model = LogisticRegression().fit(*data)
        return run.info.run_id, mlflow.sklearn.log_model(model, name="model", pip_requirements=["scikit-learn"])


def test_tracing_loses_the_spans_and_nothing_else(mlflow: Any) -> None:
    mlflow.set_experiment("traced")

    @mlflow.trace
    def answer(question: str) -> str:
        with mlflow.start_span("inner") as span:
            span.set_inputs({"question": question})
        return question.upper()

    began = time.monotonic()
    with mlflow.start_run() as run:
        assert answer("why") == "WHY"
        mlflow.log_metric("m", 1)
    mlflow.flush_trace_async_logging()
    client = mlflow.MlflowClient()
    root = client.start_trace("by hand")
    client.end_trace(root.trace_id)
    assert mlflow.get_run(run.info.run_id).data.metrics == {"m": 1.0}
    with pytest.raises(MlflowException):
        mlflow.search_traces()
    assert time.monotonic() - began < 60


def test_evaluating_a_classifier(mlflow: Any, data: tuple[Any, Any], logged: Any) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(data[0], columns=["a", "b", "c"])
    frame["y"] = data[1]
    mlflow.set_experiment("evaluated")
    with mlflow.start_run() as run:
        dataset = mlflow.data.from_pandas(frame, name="held-out", targets="y")
        result = mlflow.models.evaluate(
            logged[1].model_uri,
            dataset,
            model_type="classifier",
            evaluator_config={"log_explainer": False, "log_model_explainability": False},
        )
    found = mlflow.get_run(run.info.run_id)
    assert found.data.metrics["accuracy_score"] == result.metrics["accuracy_score"] > 0.8
    assert found.inputs.dataset_inputs[0].dataset.name == "held-out"
    paths = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert {"confusion_matrix.png", "per_class_metrics.csv"} & paths
    about = {point.key: point for point in mlflow.get_logged_model(logged[1].model_id).metrics}
    assert about["accuracy_score"].dataset_name == "held-out"


def test_async_logging_arrives(mlflow: Any) -> None:
    mlflow.set_experiment("async")
    mlflow.config.enable_async_logging()
    try:
        with mlflow.start_run() as run:
            for step in range(300):
                mlflow.log_metric("loss", 1 / (step + 1), step=step)
            mlflow.log_params({"a": 1, "b": 2})
            mlflow.set_tags({"c": 3})
        mlflow.flush_async_logging()
    finally:
        mlflow.config.enable_async_logging(False)
    found = mlflow.get_run(run.info.run_id)
    assert found.data.params == {"a": "1", "b": "2"} and found.data.tags["c"] == "3"
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == list(range(300))


def test_system_metrics(mlflow: Any) -> None:
    pytest.importorskip("psutil")
    mlflow.set_experiment("system")
    mlflow.set_system_metrics_sampling_interval(0.2)
    mlflow.set_system_metrics_samples_before_logging(1)
    with mlflow.start_run(log_system_metrics=True) as run:
        wait_until(lambda: mlflow.get_run(run.info.run_id).data.metrics, "the first sample")
    metrics = mlflow.get_run(run.info.run_id).data.metrics
    assert metrics["system/system_memory_usage_megabytes"] > 0 and "system/cpu_utilization_percentage" in metrics


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", str(1 << 20))
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", str(1 << 20))
    yield


def test_clients_that_want_parts_both_ways(mlflow: Any, in_parts: None, tmp_path: Path) -> None:
    """Up they send parts; down they are told that one stream is all they need."""
    big = tmp_path / "big.bin"
    big.write_bytes(os.urandom(3 << 20))
    mlflow.set_experiment("parts")
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(big))
    got = mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/big.bin", dst_path=str(tmp_path / "back"))
    assert Path(got).read_bytes() == big.read_bytes()


def test_versions_of_places_without_files(mlflow: Any) -> None:
    """As MLflow does, a place is taken at its word; what cannot be one is refused."""
    client = mlflow.MlflowClient()
    run = client.create_run("0").info
    client.create_registered_model("noted")
    for source in ("s3://bucket/model", f"runs:/{run.run_id}/later", f"{run.artifact_uri}/later"):
        made = client.create_model_version("noted", source, run.run_id)
        assert (made.status, made.source) == ("READY", source)
    assert client.get_model_version_download_uri("noted", "1") == "s3://bucket/model"
    for source in ("/etc", "file:///etc", "s3://b/../x", "https://h/x", "relative/path"):
        with pytest.raises(MlflowException, match="Invalid model version source"):
            client.create_model_version("noted", source, run.run_id)


def test_prompts_are_no_models(mlflow: Any, server: RunningServer) -> None:
    mlflow.genai.register_prompt("hello-ana", "Hello {{name}}")
    mlflow.MlflowClient().create_registered_model("a-model")
    call = server.client.call
    listed, prompts = (call("GET", "/api/v1/models", query=query)["models"] for query in ({}, {"kind": "prompt"}))
    assert "a-model" in [model["name"] for model in listed] and "hello-ana" not in [model["name"] for model in listed]
    assert "hello-ana" in (names := [prompt["name"] for prompt in prompts]) and "a-model" not in names
    assert mlflow.genai.load_prompt("prompts:/hello-ana/1").format(name="Ana") == "Hello Ana"
    for page, shown, hidden in (
        ("/models", "a-model", ">hello-ana<"),
        ("/models?kind=prompt", ">hello-ana<", "a-model"),
    ):
        request = urllib.request.Request(server.url + page, headers={"Authorization": f"Bearer {server.token}"})
        with urllib.request.urlopen(request) as answer:
            text = answer.read().decode()
        assert shown in text and hidden not in text


def test_names_are_as_long_as_mlflows_database_takes(mlflow: Any) -> None:
    client, longest = mlflow.MlflowClient(), "n" * 256
    client.create_registered_model(longest)
    client.create_model_version(longest, "s3://bucket/model")
    client.set_registered_model_alias(longest, "a" * 255, "1")
    assert client.get_model_version_by_alias(longest, "a" * 255).name == longest
    for wrong in ("n" * 257, ".", "..", "a/b"):
        with pytest.raises(MlflowException, match=r"name"):
            client.create_registered_model(wrong)
        with pytest.raises(MlflowException, match=r"name"):
            client.rename_registered_model(longest, wrong)
    with pytest.raises(MlflowException, match="maximum length of 255"):
        client.set_registered_model_alias(longest, "a" * 256, "1")


def test_a_batch_with_one_bad_item_leaves_nothing(mlflow: Any) -> None:
    client = mlflow.MlflowClient()
    run_id = client.create_run("0").info.run_id
    good = [Metric("a", 1, 1, 1)]
    for bad in ({"metrics": [*good, Metric("../b", 1, 1, 1)]}, {"metrics": good, "params": [Param("c" * 251, "1")]}):
        with pytest.raises(MlflowException):
            client.log_batch(run_id, **bad)
    assert client.get_run(run_id).data.metrics == {} and client.get_run(run_id).data.params == {}


def test_an_experiment_may_keep_its_files_elsewhere(mlflow: Any, data: tuple[Any, Any], tmp_path: Path) -> None:
    """As in MLflow's own examples; the hub notes where they lie and never touches them."""
    place = (tmp_path / "mlruns").as_uri()
    number = mlflow.create_experiment("kept elsewhere", artifact_location=place, tags={"version": "v1"})
    assert mlflow.get_experiment(number).artifact_location == place
    with mlflow.start_run(experiment_id=number) as run:
        mlflow.log_text("hello", "notes/a.txt")
        model = LogisticRegression().fit(*data)
        logged = mlflow.sklearn.log_model(
            model, name="m", registered_model_name="elsewhere", pip_requirements=["scikit-learn"]
        )
    assert (tmp_path / "mlruns" / run.info.run_id / "artifacts" / "notes" / "a.txt").read_text() == "hello"
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/notes/a.txt") == "hello"
    client = mlflow.MlflowClient()
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["notes"]
    assert client.get_model_version_download_uri("elsewhere", "1") == f"{place}/models/{logged.model_id}/artifacts"
    assert list(mlflow.sklearn.load_model("models:/elsewhere/1").predict(data[0][:3])) == list(
        model.predict(data[0][:3])
    )
    noted = client.create_model_version("elsewhere", f"{run.info.artifact_uri}/notes", run.info.run_id)
    assert noted.source == f"{run.info.artifact_uri}/notes"
    with pytest.raises(MlflowException, match="Invalid model version source"):
        client.create_model_version("elsewhere", f"{run.info.artifact_uri}/../x", run.info.run_id)
    for wrong in ("mlflow-artifacts:/0", "https://h/x", "s3://b/../x"):
        with pytest.raises(MlflowException, match="Invalid artifact location"):
            client.create_experiment("kept nowhere", artifact_location=wrong)
