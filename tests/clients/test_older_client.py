"""A client of MLflow 2 against our server, in an environment of its own, made once."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import RunningServer
from tests.environments import python_with

RELEASE = "2.22.5"
SCRIPT = """
import mlflow
from mlflow.entities import Metric, Param, RunTag

client = mlflow.MlflowClient()
mlflow.set_experiment("older")
with mlflow.start_run(run_name="two") as run:
    mlflow.log_metric("auc", 0.5, step=1)
    mlflow.log_param("depth", 3)
    mlflow.set_tag("team", "ml")
    mlflow.log_text("hello", "notes/a.txt")
    client.log_batch(run.info.run_id, [Metric("loss", 0.1, 1, 1)], [Param("a", "1")], [RunTag("b", "2")])
found = client.get_run(run.info.run_id)
assert found.data.metrics == {"auc": 0.5, "loss": 0.1} and found.data.params == {"depth": "3", "a": "1"}
assert found.info.status == "FINISHED" and found.data.tags["b"] == "2"
assert mlflow.artifacts.load_text(found.info.artifact_uri + "/notes/a.txt") == "hello"
wanted = "metrics.auc > 0.4 AND params.depth = '3'"
found = client.search_runs([run.info.experiment_id], wanted, order_by=["metrics.auc"])
assert [item.info.run_id for item in found] == [run.info.run_id]
assert [point.value for point in client.get_metric_history(run.info.run_id, "auc")] == [0.5]
client.create_registered_model("older-model")
version = client.create_model_version("older-model", found[0].info.artifact_uri + "/notes", run.info.run_id)
client.transition_model_version_stage("older-model", version.version, "Production")
assert client.get_latest_versions("older-model", ["Production"])[0].version == version.version
client.set_registered_model_alias("older-model", "champion", version.version)
assert client.get_model_version_by_alias("older-model", "champion").run_id == run.info.run_id
print("done")
"""


@pytest.mark.timeout(400)
def test_a_client_of_mlflow_2_works_unchanged(server: RunningServer, tmp_path: Path) -> None:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    where = {"MLFLOW_TRACKING_URI": server.url, "MLFLOW_TRACKING_TOKEN": server.token}
    command = [
        str(python_with(f"mlflow-skinny-{RELEASE}", f"mlflow-skinny=={RELEASE}")),
        "-W",
        "ignore",
        "-c",
        SCRIPT,
    ]
    done = subprocess.run(command, cwd=tmp_path, env=kept | where, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("done")
