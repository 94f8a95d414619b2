"""Library steps in a pipeline: cached by what files hold, recorded, resumed, and the same when they serve."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from modelyard import steps
from modelyard.build.pipelines import model_format
from tests.conftest import RunningServer, wait_until
from tests.unit.deliver.serving.test_standalone import start
from tests.unit.steps.test_training import people

PIPELINE = """
from sklearn.linear_model import LogisticRegression

import modelyard as yard
from ages import Ages
from modelyard import steps


@yard.pipeline
def main(c: float = 1.0):
    rows = steps.validate(steps.read("people.csv"), "contract.toml")
    learn, test = steps.split(rows, stratify="late")
    estimator = LogisticRegression(C=c)
    model = steps.train(learn, target="late", estimator=estimator, features="scaled", drop=["band", "spent"])
    evaluation = steps.evaluate(model, test, target="late", protected=["plan"], slices=["age"])
    yard.register("late", model=model, evaluation=evaluation, reference=test)


@yard.pipeline
def named():
    learn, _ = steps.split(steps.read("people.csv"))
    steps.train(learn, target="late", estimator=LogisticRegression, features="scaled", drop=["band", "spent"])


@yard.pipeline
def own():
    learn, test = steps.split(steps.read("people.csv"))
    model = steps.train(learn, target="late", estimator=LogisticRegression, features=Ages(), drop=["band", "spent"])
    yard.register("own", model=model, evaluation=steps.evaluate(model, test, target="late"), reference=test)


@yard.pipeline
def search(trials: int = 6):
    learn, _ = steps.split(steps.read("people.csv"))
    space = {"learning_rate": (0.01, 0.5, "log"), "max_leaf_nodes": (4, 16), "max_iter": [5, 10]}
    best = steps.tune(learn, "late", "boosting", space, trials=trials, parallel=2, drop=["band", "spent", "id"])
    steps.train(learn, target="late", estimator="boosting", params=best, drop=["band", "spent"])
"""


AGES = """
from sklearn.base import BaseEstimator, TransformerMixin
from limits import MOST


class Ages(TransformerMixin, BaseEstimator):
    def fit(self, rows, labels=None):
        self.mean_ = float(rows["age"].mean())
        return self

    def transform(self, rows):
        return rows[["age"]].astype(float).fillna(self.mean_).clip(upper=MOST)
"""


def write(folder: Path, rows: pd.DataFrame) -> None:
    (folder / "pipeline.py").write_text(PIPELINE)
    (folder / "ages.py").write_text(AGES)
    (folder / "limits.py").write_text("MOST = 60.0\n")
    rows.to_csv(folder / "people.csv", index=False)
    steps.write_contract(folder / "contract.toml", rows.drop(columns=["id", "late", "band", "spent"]))


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(("MODELYARD", "MLFLOW"))}


def run(folder: Path, pipeline: str, *options: str, **more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "modelyard", "run", f"pipeline.py:{pipeline}", "--json", *options]
    done = subprocess.run(
        command, cwd=folder, env={**environment(), **more}, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout[done.stdout.index("{") :])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "modelyard.toml").write_text('[project]\nname = "p"\n')
    write(tmp_path, people())
    return tmp_path


def states(told: dict[str, Any]) -> dict[str, str]:
    return {name: state for name, state in told["steps"].items() if not name.startswith("register")}


def test_a_step_runs_again_when_its_file_its_contract_or_its_estimator_changed(folder: Path):
    assert set(states(run(folder, "named")).values()) == {"finished"}
    assert set(states(run(folder, "named")).values()) == {"cached"}
    os.utime(folder / "people.csv", (1, 1))
    touched = states(run(folder, "named"))
    assert touched == {"read": "finished", "split": "cached", "train": "cached"}  # the same rows, read again
    people(seed=1).to_csv(folder / "people.csv", index=False)
    assert set(states(run(folder, "named")).values()) == {"finished"}
    source = (folder / "pipeline.py").read_text()
    (folder / "pipeline.py").write_text(source.replace("estimator=LogisticRegression,", "estimator=Perceptron,"))
    with (folder / "pipeline.py").open("a") as stream:
        stream.write("\nfrom sklearn.linear_model import Perceptron\n")
    assert states(run(folder, "named")) == {"read": "cached", "split": "cached", "train": "finished"}


def test_a_version_of_library_steps_has_datasets_slices_and_serves_the_same_numbers(
    server: RunningServer, tmp_path: Path
):
    rows = people()
    write(server.project, rows)
    address = {"MODELYARD_URL": server.url, "MODELYARD_TOKEN": server.token}
    told = run(server.project, "main", **address)
    assert set(told["steps"].values()) == {"finished"}
    version = server.client.call("GET", "/api/v1/models/late/versions/1")
    (evaluation,) = [each["content"] for each in version["evidence"] if each["kind"] == "evaluation"]
    assert {part["by"] for part in evaluation["slices"]} == {"plan", "age"}
    assert {"roc", "calibration", "precision_recall"} <= set(evaluation["curves"])
    assert "demographic_parity_ratio/plan" not in evaluation["metrics"]  # its groups are too small to be judged
    found = server.client.call("GET", f"/api/2.0/mlflow/runs/get?run_id={version['run_id']}")["run"]
    listed = server.client.call("GET", f"/api/2.0/mlflow/artifacts/list?run_id={version['run_id']}&path=plots")
    assert {file["path"] for file in listed["files"]} >= {"plots/roc.svg", "plots/calibration.svg"}
    (dataset,) = found["inputs"]["dataset_inputs"]
    assert dataset["dataset"]["name"] == "people" and json.loads(dataset["dataset"]["profile"])["num_rows"] == 300
    again = run(server.project, "main", "-p", "c=0.5", **address)
    assert states(again) == {"read": "cached", "validate": "cached", "split": "cached"} | dict.fromkeys(
        ("train", "evaluate"), "finished"
    )
    folder = files_of(server, "late", tmp_path)
    asked = pd.read_csv(server.project / "people.csv").head(40)
    model = model_format.load(folder)
    wanted = steps.predict(model, asked)["prediction"].to_numpy()
    np.testing.assert_array_equal(served(folder, asked[list(model.feature_names_in_)]), wanted)
    parts = steps.predict_files(str(folder), str(server.project / "people.csv"), str(tmp_path / "out"))
    assert parts == {"rows": 300, "parts": 1, "kept": 0, "set_aside": 0}
    again = steps.predict_files(str(folder), str(server.project / "people.csv"), str(tmp_path / "out"))
    assert again == {"rows": 0, "parts": 0, "kept": 1, "set_aside": 0}
    lines = (server.project / "people.csv").read_text().splitlines()
    (tmp_path / "ragged.csv").write_text("\n".join([*lines[:4], "1"]) + "\n")
    where = str(folder), str(tmp_path / "ragged.csv"), str(tmp_path / "out")
    assert steps.predict_files(*where, set_aside=str(tmp_path / "aside"))["set_aside"] == 1


def test_features_of_the_project_are_packaged_with_the_model(server: RunningServer, tmp_path: Path):
    """The endpoint's process has no project: what its features need came with the model."""
    write(server.project, people())
    run(server.project, "own", MODELYARD_URL=server.url, MODELYARD_TOKEN=server.token)
    folder = files_of(server, "own", tmp_path)
    assert {path.name for path in (folder / "code").iterdir()} == {"ages.py", "limits.py"}
    asked = people().head(30)
    learn, _ = steps.split(pd.read_csv(server.project / "people.csv"))
    ages = learn["age"].fillna(learn["age"].mean()).clip(upper=60.0)
    plain = LogisticRegression().fit(ages.to_numpy().reshape(-1, 1), learn["late"])
    same = asked["age"].fillna(learn["age"].mean()).clip(upper=60.0)
    wanted = plain.predict_proba(same.to_numpy().reshape(-1, 1))[:, 1]
    inputs = asked.drop(columns=["late", "band", "spent"])
    np.testing.assert_allclose(served(folder, inputs), wanted, rtol=1e-12)


def files_of(server: RunningServer, model: str, tmp_path: Path) -> Path:
    """The files of a model's first version in a new folder."""
    folder = tmp_path / "model"
    for file in server.client.call("GET", f"/api/v1/models/{model}/versions/1")["files"]:
        data = server.client.download(f"/api/v1/models/{model}/versions/1/files/{file['path']}")
        (folder / file["path"]).parent.mkdir(parents=True, exist_ok=True)
        (folder / file["path"]).write_bytes(data)
    return folder


def served(folder: Path, rows: pd.DataFrame) -> Any:
    """What a real endpoint of the model answers."""
    port, process = start(folder)
    try:
        body = json.dumps({"dataframe_split": json.loads(rows.to_json(orient="split", index=False))}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return np.asarray(json.loads(answer.read())["predictions"])[:, 1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def trials_done(folder: Path) -> int:
    records = (folder / ".modelyard/cache/steps").glob("*.json")
    return sum("pruned" in path.read_text() and '"folds"' in path.read_text() for path in records)


@pytest.fixture
def searching(folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "modelyard", "run", "pipeline.py:search", "--json"]
    process = subprocess.Popen(command, cwd=folder, env=environment(), start_new_session=True)
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()


def test_a_search_that_was_killed_goes_on_after_its_last_trial(folder: Path, searching: "subprocess.Popen[bytes]"):
    pytest.importorskip("optuna")
    wait_until(lambda: trials_done(folder) >= 2, "two trials", 90)
    os.killpg(searching.pid, signal.SIGKILL)
    searching.wait()
    held = trials_done(folder)
    told = states(run(folder, "search"))
    trials = {name: state for name, state in told.items() if name.startswith("trial") and "[" in name}
    assert len(trials) == 6 and list(trials.values()).count("cached") >= min(held, 6)
    assert told["read"] == "cached" and told["train"] == "finished"
    assert "cached" in trials.values()
    assert set(states(run(folder, "search")).values()) == {"cached"}
