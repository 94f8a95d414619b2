"""From lost quality to a waiting approval without a hand, with the server killed at each stage of the way."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from modelyard.events import audit, log
from modelyard.kit.clock import now_ms
from modelyard.server.bootstrap import open_yard
from modelyard.server.settings import Settings
from modelyard.store.database import Store
from modelyard.store.tables.delivery import endpoints
from tests.conftest import RunningServer, start_server, wait_until

PROJECT = """
[project]
name = "loop"

[models.m]
task = "binary"
pipeline = "pipeline.py:main"

[models.m.monitor]
on_alert = ["retrain"]

[environments.production]
approvals = 1
"""
PIPELINE = """
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
import modelyard as yard

@yard.step
def load() -> pd.DataFrame:
    rows = pd.DataFrame({"x": np.random.default_rng(1).normal(size=400)})
    return rows.assign(late=(rows["x"] > 0).astype(int))

@yard.step
def fit(rows: pd.DataFrame) -> LogisticRegression:
    return LogisticRegression().fit(rows[["x"]], rows["late"])

@yard.step
def evaluate(model: LogisticRegression, rows: pd.DataFrame) -> yard.Evaluation:
    return yard.evaluate_binary(model, rows, label="late", features=["x"])

@yard.pipeline
def main():
    rows = load()
    model = fit(rows)
    yard.register("m", model=model, evaluation=evaluate(model, rows), reference=rows)
"""
RESULTS = "/api/v1/environments/production/endpoints/m/monitor-results"
STAGES = ["alert.opened", "retrain.triggered", "pipeline-run.started", "version.registered"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose endpoint exists already."""
    (tmp_path / "modelyard.toml").write_text(PROJECT)
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    yard = open_yard(tmp_path / ".modelyard", tmp_path, Settings(loops=False))
    place = {"environment": "production", "name": "m", "model": "m", "updated_at": now_ms()}
    yard.store.write_now(lambda conn: conn.execute(insert(endpoints).values(**place)))
    yard.store.close()
    return tmp_path


def found(kind: str, end: int) -> dict[str, Any]:
    result = {"kind": kind, "version": 1, "window_start": end - 1, "window_end": end, "rows": 1000}
    return {**result, "verdict": "alert", "title": f"{kind} at {end}", "detail": {"value": 0.6}}


def events(server: RunningServer, kind: str) -> list[dict[str, Any]]:
    return server.client.call("GET", "/api/v1/events", query={"types": kind, "limit": 50})["events"]


def check_chain(project: Path, asked: str) -> None:
    """One unbroken chain from the drift to the request, however often the work between was repeated."""
    store = Store(f"sqlite:///{project / '.modelyard' / 'yard.db'}")
    try:
        chain = [event.type for event in store.read_now(lambda conn: log.causes(conn, asked))]
        assert chain[:4] == ["drift.detected", "quality.degraded", "alert.opened", "retrain.triggered"]
        assert chain[-1] == "approval.requested"
        assert store.read_now(audit.verify).intact
        triggered = store.read_now(lambda conn: log.read(conn, types=["retrain.triggered"]))
        assert len(triggered) == 1  # a restart repeats work, never the decision to retrain
    finally:
        store.close()


def live_through(project: Path, stages: list[str]) -> str:
    """The id of the request for approval that the loop came to, its server killed as each of the stages appeared."""
    server = start_server(project)
    try:
        body = {"results": [found("drift", 1), found("model_quality", 2)]}
        server.client.call("POST", RESULTS, body=body)
        for stage in stages:
            wait_until(lambda server=server, stage=stage: events(server, stage), f"{stage} before the kill", 100)
            server.process.kill()
            server.process.wait(20)
            server = start_server(project)
        asked = wait_until(lambda: events(server, "approval.requested"), "the request for approval", 100)
    finally:
        server.stop()
    assert isinstance(asked, list)
    return asked[0]["id"]


@pytest.mark.timeout(300)
def test_the_loop_closes_by_itself_with_the_server_killed_at_every_stage(project: Path) -> None:
    check_chain(project, live_through(project, STAGES))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("stage", STAGES)
def test_the_loop_goes_on_after_the_server_was_killed(project: Path, stage: str) -> None:
    check_chain(project, live_through(project, [stage]))
