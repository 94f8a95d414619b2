"""Fills MLflow stores with what a team would have: run as `python fill.py URI...`, by any MLflow."""

import os
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag

ODD = [float("nan"), float("inf"), float("-inf")]


def fill(uri: str) -> None:
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri, registry_uri=uri)
    experiment = client.create_experiment("churn", tags={"team": "growth"})
    made = [fill_run(client, experiment, number) for number in range(3)]
    client.delete_run(made[2][0])
    for number, (run, model) in enumerate(made, start=1):
        if number == 1:
            client.create_registered_model("churn", tags={"owner": "ana"}, description="who leaves")
        client.create_model_version("churn", f"models:/{model}", run, tags={"n": str(number)}, model_id=model)
    client.delete_model_version("churn", "2")
    client.set_registered_model_alias("churn", "champion", "3")
    client.set_registered_model_alias("churn", "old", "1")
    client.update_model_version("churn", "3", description="best")
    client.copy_model_version("models:/churn/3", "a-copy")
    client.create_registered_model("empty")
    client.register_prompt("greeting", "Hello {{name}}", tags={"lang": "en"})
    client.set_prompt_alias("greeting", "live", 1)
    client.create_registered_model("far")
    client.create_model_version("far", "s3://elsewhere/model", tags={"kept": "there"})
    gone = client.create_experiment("gone")
    client.log_metric(client.create_run(gone).info.run_id, "a", 1.0)
    client.delete_experiment(gone)
    fill_real()


def fill_real() -> None:
    """A model that predicts, logged and registered as people do, below a parent run, with a stage."""
    from sklearn.linear_model import LogisticRegression

    mlflow.set_experiment("real")
    with mlflow.start_run(run_name="parent"), mlflow.start_run(run_name="child", nested=True):
        model = LogisticRegression(C=0.5).fit([[0.0, 0.1], [1.0, 0.9], [0.2, 0.0], [0.8, 1.0]], [0, 1, 0, 1])
        logged = mlflow.sklearn.log_model(model, name="model", pip_requirements=["scikit-learn"])
        dataset = mlflow.data.from_numpy(np.array([[0.1, 0.2]]), name="test")
        mlflow.log_metric("auc", 0.9, step=3, dataset=dataset, model_id=logged.model_id)
        mlflow.log_metric("plain", 0.8, model_id=logged.model_id)
    client = MlflowClient()
    version = mlflow.register_model(logged.model_uri, "real", await_registration_for=0)
    client.set_registered_model_alias("real", "champion", version.version)
    with warnings.catch_warnings(action="ignore"):
        client.transition_model_version_stage("real", version.version, "Staging")


def fill_run(client: MlflowClient, experiment: str, number: int) -> tuple[str, str]:
    run = client.create_run(experiment, start_time=1_700_000_000_000 + number, run_name=f"run-{number}")
    own = run.info.run_id
    points = [Metric("loss", 1 / (step + 1), 1_700_000_000_000 + step, step) for step in range(1500)]
    odd = [Metric("odd", value, 1_700_000_000_000, step) for step, value in enumerate(ODD)]
    client.log_batch(own, metrics=points[:1000])
    client.log_batch(own, metrics=[*points[1000:], *odd, Metric("val/auc", 0.7 + number / 100, 1_700_000_000_000, 0)])
    client.log_batch(own, params=[Param("C", str(number)), Param("long", "x" * 500)])
    client.log_batch(own, tags=[RunTag("color", "red"), RunTag("ünïcode", "größe")])
    dataset = Dataset("train", "d1g35t", "local", '{"uri": "train.csv"}', schema="{}", profile='{"rows": 3}')
    client.log_inputs(own, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "größe.bin").write_bytes(bytes(range(256)) * 5000)
        (folder / "readme.txt").write_text("hello")
        client.log_artifacts(own, str(folder))
        model = client.create_logged_model(experiment, "model", source_run_id=own, params={"C": "1"}, tags={"k": "v"})
        (folder / "model").mkdir()
        (folder / "model" / "MLmodel").write_text(f"number: {number}\n")
        client.log_model_artifacts(model.model_id, str(folder / "model"))
        client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(own, [LoggedModelOutput(model.model_id, 0)])
    client.set_terminated(own, "FAILED" if number == 1 else "FINISHED", end_time=1_700_000_100_000)
    return own, model.model_id


if __name__ == "__main__":
    for named in sys.argv[1:]:
        fill(named)
