"""A challenger that forgets fails its gate, and the next alert says that a person has to look."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from modelyard.kit.clock import now_ms
from modelyard.server.bootstrap import open_yard
from modelyard.server.settings import Settings
from modelyard.store.tables.delivery import endpoints
from tests.conftest import RunningServer, start_server, wait_until

PROJECT = """
[project]
name = "unhelpful"

[models.m]
task = "binary"
pipeline = "pipeline.py:main"

[models.m.gates]
forgotten = { max = 0.05 }

[models.m.monitor]
on_alert = ["retrain"]
retrain = { params = { newest = true }, cool_down = "1s", most_unhelpful = 1 }

[environments.production]
approvals = 1
"""
PIPELINE = """
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
import modelyard as yard

@yard.step
def load(turned: bool) -> pd.DataFrame:
    rows = pd.DataFrame({"x": np.random.default_rng(1).normal(size=400)})
    return rows.assign(late=((rows["x"] > 0) != turned).astype(int))

@yard.step
def fit(rows: pd.DataFrame) -> LogisticRegression:
    return LogisticRegression().fit(rows[["x"]], rows["late"])

@yard.step
def evaluate(model: LogisticRegression, rows: pd.DataFrame) -> yard.Evaluation:
    return yard.evaluate_binary(model, rows, label="late", features=["x"])

@yard.pipeline
def main(newest: bool = False):
    old, rows = load(False), load(newest)
    model = fit(rows)
    yard.register("m", model=model, evaluation=evaluate(model, rows), reference=rows, old=old)
"""
RESULTS = "/api/v1/environments/production/endpoints/m/monitor-results"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """A yard whose champion knows both windows."""
    (tmp_path / "modelyard.toml").write_text(PROJECT)
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    yard = open_yard(tmp_path / ".modelyard", tmp_path, Settings(loops=False))
    place = {"environment": "production", "name": "m", "model": "m", "updated_at": now_ms()}
    yard.store.write_now(lambda conn: conn.execute(insert(endpoints).values(**place)))
    yard.store.close()
    running = start_server(tmp_path)
    try:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MODELYARD", "MLFLOW"))}
        environment |= {"MODELYARD_URL": running.url, "MODELYARD_TOKEN": running.token}
        command = [sys.executable, "-m", "modelyard", "run", "pipeline.py:main"]
        made = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=280)
        assert made.returncode == 0, made.stderr
        running.client.call("PUT", "/api/v1/models/m/aliases/champion", body={"version": 1})
        yield running
    finally:
        running.stop()


def report(server: RunningServer, end: int) -> str:
    """Report lost quality; the id of the alert that opens."""
    result = {"kind": "model_quality", "version": 1, "window_start": end - 1, "window_end": end, "rows": 1000}
    result |= {"verdict": "alert", "title": f"roc_auc fell at {end}", "detail": {"value": 0.6}}
    server.client.call("POST", RESULTS, body={"results": [result]})
    return server.client.call("GET", "/api/v1/alerts")["alerts"][0]["id"]


def events(server: RunningServer, kind: str) -> list[dict[str, Any]]:
    return server.client.call("GET", "/api/v1/events", query={"types": kind, "limit": 50})["events"]


def done(server: RunningServer, alert: str) -> str:
    explained = server.client.call("GET", f"/api/v1/alerts/{alert}")["explanation"]
    return "; ".join(item["said"] for item in explained["done"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_challenger_that_forgets_fails_its_gate_and_the_next_alert_says_so(server: RunningServer) -> None:
    first = report(server, 10)
    failed = wait_until(lambda: events(server, "gates.failed"), "the failed gate", 250)
    assert isinstance(failed, list) and "forgotten" in failed[0]["data"]["reason"]
    assert "failed its gates" in done(server, first)
    evidence = server.client.call("GET", "/api/v1/models/m/versions/2")["evidence"]
    champion = next(item["content"]["champion"] for item in evidence if item["kind"] == "evaluation")
    assert champion["old"]["metrics"]["roc_auc"] > 0.99 and champion["metrics"]["roc_auc"] < 0.01
    server.client.call("POST", f"/api/v1/alerts/{first}/resolve", body={"note": "try again"})
    second = report(server, 20)
    wait_until(lambda: events(server, "retrain.unhelpful"), "the word that retraining does not help", 120)
    assert second != first and "retraining does not help: 1 retrains in a row" in done(server, second)
    assert len(events(server, "retrain.triggered")) == 1
