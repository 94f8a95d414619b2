"""What a user of the stock client waits for, in a process of its own: prints seconds as JSON. Usage: URI [TOKEN]."""

import json
import logging
import os
import sys
import time
import warnings

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
os.environ["MLFLOW_TRACKING_URI"] = sys.argv[1]
if len(sys.argv) > 2:
    os.environ["MLFLOW_TRACKING_TOKEN"] = sys.argv[2]
warnings.filterwarnings("ignore")

import mlflow  # noqa: E402
import numpy as np  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402

logging.getLogger("mlflow").setLevel(logging.ERROR)
random = np.random.default_rng(0)
features = random.normal(size=(2000, 10))
labels = (features[:, 0] > 0).astype(int)


def taken(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def logged() -> None:
    with mlflow.start_run():
        mlflow.sklearn.log_model(model, name="model")


mlflow.set_experiment("client")
model = LogisticRegression().fit(features, labels)
found = {"fit": min(taken(lambda: LogisticRegression().fit(features, labels)) for _ in range(3))}
found["first log_model"] = taken(logged)
found["log_model"] = min(taken(logged) for _ in range(2))
mlflow.sklearn.autolog()
LogisticRegression().fit(features, labels)
found["autologged fit"] = taken(lambda: LogisticRegression().fit(features, labels))
sys.stderr.flush()
print("\n" + json.dumps(found))
