"""`models:/` addresses through the stock client: over HTTP, and in process without a server."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients import model_uris

pytestmark = pytest.mark.filterwarnings("ignore")
FILES = ["MLmodel", "conda.yaml", "model.skops", "python_env.yaml", "registered_model_meta", "requirements.txt"]


def test_every_address_names_the_same_model(mlflow: Any) -> None:
    seen = model_uris.observe(mlflow, "addresses")
    for how, version in seen["versions"].items():
        assert version["run_id"] == "<run>" and version["status"] == "READY", how
        assert version["model_id"] is version["params"] is version["metrics"] is None  # no MLflow client reads them
    assert {how: version["source"] for how, version in seen["versions"].items()} == {
        "of a run": "models:/<model>",
        "of a logged model": "models:/<model>",
        "while logging": "models:/<both>",
        "copied": "models:/<name>/2",
        "copied by alias": "models:/<name>/2",
        "copied copy": "models:/<name>-copy/1",
        "read": "models:/<model>",
        "by alias": "models:/<model>",
    }
    assert seen["download"] == ["<artifacts>/models/<model>/artifacts"] * 4
    for address, model in seen["loaded"].items():
        assert (model["answers"], model["model"], model["run"], model["about"]) == (
            [0, 1],
            "<model>",
            "<run>",
            "<model>",
        )
        assert model["files"] == FILES, address
    assert seen["refused"]["models:/<name>@none"] == ["INVALID_PARAMETER_VALUE"] * 3
    assert seen["refused"]["models:/nobody/1"] == ["RESOURCE_DOES_NOT_EXIST"] * 3


def test_they_do_in_process_too(mlflow: Any, tmp_path: Path) -> None:
    (tmp_path / "modelyard.toml").write_text('[project]\nname = "here"\n')
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "MODELYARD"))}
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", model_uris.__file__, "in-process"],
        cwd=tmp_path,
        env=kept | quiet | {"MLFLOW_TRACKING_URI": "modelyard://"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == model_uris.observe(mlflow, "over-http")
