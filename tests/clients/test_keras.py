"""Keras' autolog against our server, with the JAX backend, in an environment of its own, made once."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import RunningServer
from tests.environments import python_with

WANTED = ("keras>=3.10,<4", "jax>=0.6", "mlflow-skinny==3.17.2", "pandas")
SCRIPT = """
import keras, mlflow
import numpy as np

mlflow.set_experiment("keras")
mlflow.keras.autolog()
random = np.random.default_rng(0)
features = random.normal(size=(256, 4)).astype("float32")
labels = (features[:, 0] > 0).astype("float32")
layers = [keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1, "sigmoid")]
model = keras.Sequential(layers)
model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
with mlflow.start_run() as run:
    model.fit(features, labels, validation_split=0.25, epochs=3, batch_size=32, verbose=0)
client = mlflow.MlflowClient()
found = client.get_run(run.info.run_id)
assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= found.data.metrics.keys(), found.data.metrics
assert len(client.get_metric_history(run.info.run_id, "loss")) == 3
assert found.data.params["epochs"] == "3" and found.data.params["batch_size"] == "32"
assert found.outputs.model_outputs, found.outputs
version = mlflow.register_model(f"models:/{found.outputs.model_outputs[0].model_id}", "keras-net")
client.set_registered_model_alias("keras-net", "champion", version.version)
loaded = mlflow.keras.load_model("models:/keras-net@champion")
assert np.allclose(loaded.predict(features, verbose=0), model.predict(features, verbose=0), atol=1e-5)
print("done")
"""


@pytest.mark.heavy  # about 400 MB of packages, and half a minute of compiling
@pytest.mark.timeout(900)
def test_keras_autolog_register_load(server: RunningServer, tmp_path: Path) -> None:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    where = {"MLFLOW_TRACKING_URI": server.url, "MLFLOW_TRACKING_TOKEN": server.token, "KERAS_BACKEND": "jax"}
    command = [str(python_with("keras-jax", *WANTED)), "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, cwd=tmp_path, env=kept | where, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("done")
