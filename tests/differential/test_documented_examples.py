"""The examples of MLflow's API documentation print and raise the same on `mlflow server` and here."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MINIMAL, start_server
from tests.differential import documented
from tests.differential.conftest import peer_server

UNSUPPORTED = re.compile(r"[Tt]rac|_dataset|search_datasets|MlflowClient\.create_dataset|set_active_model")
"""Names of examples about traces and evaluation datasets, which are not supported here."""
VARYING = [
    (re.compile(pattern), shown)
    for pattern, shown in (
        (r"\[LightGBM\].*\n", ""),
        (r"\bm-[0-9a-f]{32}\b|\b[0-9a-f]{32}\b", "<id>"),
        (r"\b1[78]\d{11}\b|\d{4}-\d\d-\d\d[ T][\d:.+]+|\d+\.\d+ seconds", "<time>"),
        (r"\b[a-z]+-[a-z]+-\d{1,3}\b", "<name>"),
        (r"127\.0\.0\.1:\d+", "<host>"),
        (r"/tmp/tmp\w+|0x[0-9a-fA-F]+", "<place>"),
        (r"(mlflow-artifacts:|experiments)/\d+|experiment_id='\d+'", "<experiment>"),
    )
]


def seen(folder: Path, url: str, token: str = "") -> dict[str, list[str]]:
    """By example what it printed, without what differs from run to run, and what it raised."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    asked = {
        "TRACKING_URI": url,
        "TRACKING_TOKEN": token,
        "DISABLE_TELEMETRY": "true",
        "HTTP_REQUEST_MAX_RETRIES": "1",
    }
    asked["ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    environment = kept | {f"MLFLOW_{name}": value for name, value in asked.items()}
    out = folder / f"{'ours' if token else 'theirs'}.json"
    command = [sys.executable, "-W", "ignore", documented.__file__, str(out)]
    subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True, timeout=1500)
    found: dict[str, list[str]] = json.loads(out.read_text())
    return {name: [_plain(printed), error] for name, (printed, error) in found.items()}


def _plain(text: str) -> str:
    for pattern, shown in VARYING:
        text = pattern.sub(shown, text)
    return text


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_they_do_the_same_on_both(tmp_path: Path) -> None:
    (tmp_path / "modelyard.toml").write_text(MINIMAL)
    ours = start_server(tmp_path)
    try:
        here = seen(tmp_path, ours.url, ours.token)
    finally:
        ours.stop()
    with peer_server(tmp_path) as url:
        there = seen(tmp_path, url)
    assert here.keys() == there.keys() and len(here) > 150
    differing = {name: (here[name], there[name]) for name in here if here[name] != there[name]}
    assert {name: pair for name, pair in differing.items() if not UNSUPPORTED.search(name)} == {}
    assert len(differing) < 20
