"""The stock MLflow client, pointed at a real server."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import RunningServer


@pytest.fixture(scope="session")
def mlflow(server: RunningServer) -> Iterator[Any]:
    """The `mlflow` module, configured by environment variables alone, as a user would."""
    os.environ["MLFLOW_TRACKING_URI"] = server.url
    os.environ["MLFLOW_TRACKING_TOKEN"] = server.token
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    import mlflow

    mlflow.set_tracking_uri(server.url)
    yield mlflow
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN"):
        os.environ.pop(name)
