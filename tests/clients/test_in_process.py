"""`modelyard://`: the stock client on a yard in its own process, no server anywhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, os, sys
import mlflow
from mlflow.exceptions import MlflowException
from sklearn.linear_model import LogisticRegression

mlflow.set_experiment("here")
with mlflow.start_run(run_name="one") as run:
    mlflow.log_metric("auc", 0.5, step=3)
    mlflow.log_params({"depth": 3, "empty": ""})
    mlflow.log_text("hello", "notes/a b.txt")
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    logged = mlflow.sklearn.log_model(model, name="model", pip_requirements=["scikit-learn"])
version = mlflow.register_model(logged.model_uri, "small")
client = mlflow.MlflowClient()
client.set_registered_model_alias("small", "champion", version.version)
loaded = mlflow.sklearn.load_model("models:/small@champion")
assert list(loaded.predict([[0.0], [1.0]])) == [0, 1]
found = client.get_run(run.info.run_id)
assert found.data.metrics == {"auc": 0.5} and found.data.params["depth"] == "3"
assert found.info.artifact_uri.startswith("modelyard:/")
assert found.data.tags["modelyard.environment"] and found.data.tags["modelyard.step"] == "fit"
assert mlflow.artifacts.load_text(found.info.artifact_uri + "/notes/a b.txt") == "hello"
assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["notes"]
assert len(mlflow.search_runs(filter_string="metrics.auc > 0.4 AND params.depth = '3'")) == 1
assert len(client.search_registered_models(order_by=["name ASC", "creation_timestamp DESC"])) == 1
try:
    client.get_run("0" * 32)
except MlflowException as error:
    assert error.error_code == "RESOURCE_DOES_NOT_EXIST"
else:
    raise AssertionError("no error")
print("done")
"""


@pytest.mark.timeout(320)
def test_the_whole_way_without_a_server(tmp_path: Path) -> None:
    (tmp_path / "modelyard.toml").write_text('[project]\nname = "here"\n')
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "MODELYARD"))}
    environment = {**kept, "MLFLOW_TRACKING_URI": "modelyard://", "MODELYARD_STEP": "fit"}
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, cwd=tmp_path, env=environment | quiet, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("done")
    assert (tmp_path / ".modelyard" / "yard.db").exists()
