"""The end of a pipeline run on a real server: version, evidence, reference, lineage, champion."""

import json
import os
import subprocess
import sys
from typing import Any

from tests.conftest import RunningServer

SOURCE = """
import pandas as pd
import numpy as np
from sklearn.linear_model import LogisticRegression
import modelyard as yard
from modelyard import log_metric

@yard.step
def load(columns: list[str], reference_columns: list[str]) -> pd.DataFrame:
    random = np.random.default_rng(1)
    rows = pd.DataFrame({{name: random.normal(size=400) for name in ("x", "z")}})
    log_metric("loaded_rows", len(rows))
    return rows.assign(late=(rows["x"] > 0).astype(int))

@yard.step
def fit(rows: pd.DataFrame, columns: list[str]) -> LogisticRegression:
    return LogisticRegression().fit(rows[columns], rows["late"])

@yard.step
def evaluate(model: LogisticRegression, rows: pd.DataFrame, columns: list[str]) -> yard.Evaluation:
    return yard.evaluate_binary(model, rows, label="late", features=columns)

@yard.pipeline
def main(columns: list[str] = ["x", "z"]):
    rows = load(columns, columns)
    model = fit(rows, columns)
    yard.register("{name}", model=model, evaluation=evaluate(model, rows, columns), reference={reference})
"""


def write(server: RunningServer, name: str, reference: str = "rows") -> str:
    """The reference of a new pipeline file in the server's project."""
    (server.project / f"{name}_file.py").write_text(SOURCE.format(name=name, reference=reference))
    return f"{name}_file.py:main"


def run(server: RunningServer, reference: str, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "modelyard", "run", reference, "--json", *options]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MODELYARD", "MLFLOW"))}
    environment |= {"MODELYARD_URL": server.url, "MODELYARD_TOKEN": server.token}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=90, check=False, cwd=server.project, env=environment
    )


def version(server: RunningServer, name: str, number: int) -> dict[str, Any]:
    return server.client.call("GET", f"/api/v1/models/{name}/versions/{number}")


def test_a_version_carries_files_evaluation_and_lineage(server: RunningServer):
    done = run(server, write(server, "carrier"))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["steps"] == {
        "load": "finished",
        "fit": "finished",
        "evaluate": "finished",
        "register-carrier": "finished",
    }
    assert [(made["model"], made["version"]) for made in answer["versions"]] == [("carrier", 1)]
    shown = version(server, "carrier", 1)
    assert {file["path"] for file in shown["files"]} >= {"MLmodel", "model.skops", "requirements.txt"}
    pipeline_run = server.client.call("GET", f"/api/v1/pipeline-runs/{answer['pipeline_run_id']}")
    assert pipeline_run["state"] == "finished" or pipeline_run.get("error") is None
    tracked = server.client.call("GET", f"/api/v1/runs/{shown['run_id']}")
    assert tracked["metrics"]["loaded_rows"] == 400
    assert tracked["metrics"]["roc_auc"] > 0.95


def test_a_second_run_takes_all_from_the_cache_and_still_logs_it(server: RunningServer):
    reference = write(server, "again")
    run(server, reference)
    answer = json.loads(run(server, reference).stdout)
    assert answer["steps"]["fit"] == "cached" and answer["versions"][0]["version"] == 2
    tracked = server.client.call("GET", f"/api/v1/runs/{version(server, 'again', 2)['run_id']}")
    assert tracked["metrics"]["loaded_rows"] == 400


def test_a_challenger_is_measured_beside_the_champion(server: RunningServer):
    reference = write(server, "beside")
    run(server, reference)
    server.client.call("PUT", "/api/v1/models/beside/aliases/champion", body={"version": 1})
    done = run(server, reference)
    assert done.returncode == 0, done.stderr
    shown = json.dumps(version(server, "beside", 2))
    assert '"difference"' in shown and '"champion"' in shown


def test_without_a_reference_it_says_what_to_pass(server: RunningServer):
    done = run(server, write(server, "bare", reference="None"))
    assert done.returncode == 1
    assert "reference" in done.stderr and "Traceback" not in done.stderr


def unfinished(server: RunningServer, name: str) -> list[str]:
    """Ids of tracked runs of the experiment `name` that still count as running."""
    listed = server.client.call("GET", "/api/v1/runs")["runs"]
    return [entry["id"] for entry in listed if entry["experiment"] == name and entry["status"] == "RUNNING"]


def test_a_refused_registration_leaves_no_running_run(server: RunningServer):
    run(server, write(server, "open", reference="None"))
    assert unfinished(server, "open") == []


def test_a_challenger_may_take_other_columns_than_the_champion(server: RunningServer):
    reference = write(server, "columns")
    assert run(server, reference).returncode == 0
    server.client.call("PUT", "/api/v1/models/columns/aliases/champion", body={"version": 1})
    done = run(server, reference, "-p", "columns=x")
    assert done.returncode == 0, done.stderr
