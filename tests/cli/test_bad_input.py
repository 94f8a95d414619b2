"""Bad input at the command line: one clear error that says what to do, exit code not 0, nothing half-done."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PIPELINE = """
import pandas as pd
from sklearn.linear_model import LogisticRegression

import modelyard as yard


@yard.step
def rows() -> pd.DataFrame:
    return pd.DataFrame({"x": [float(n % 7) for n in range(400)], "late": [int(n % 7 > 3) for n in range(400)]})


@yard.step
def fit(rows: pd.DataFrame) -> LogisticRegression:
    return LogisticRegression().fit(rows[["x"]], rows["late"])


@yard.step
def evaluate(model: LogisticRegression, rows: pd.DataFrame) -> yard.Evaluation:
    return yard.evaluate_binary(model, rows, label="late")


@yard.pipeline
def train():
    table = rows()
    model = fit(table)
    yard.register("delay", model=model, evaluation=evaluate(model, table), reference=table)
"""
PROJECT = """
[project]
name = "small"

[models.delay]
task = "binary"
pipeline = "pipeline.py:train"
primary_metric = "roc_auc"

[models.delay.gates]
roc_auc = { min = 0.7 }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "modelyard.toml").write_text(PROJECT)
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    return tmp_path


def modelyard(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    held = {name: value for name, value in os.environ.items() if not name.startswith(("MODELYARD", "MLFLOW"))}
    command = [sys.executable, "-m", "modelyard", *arguments]
    return subprocess.run(
        command, cwd=folder, env={**held, **environment}, capture_output=True, text=True, check=False, timeout=60
    )


def refused(folder: Path, *arguments: str, **environment: str) -> str:
    """The error of a command that must fail: one line on standard error, without a trace."""
    done = modelyard(folder, *arguments, **environment)
    assert done.returncode not in (0, None), done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def replace(project: Path, name: str, old: str, new: str) -> None:
    file = project / name
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_an_unknown_key_is_named_with_what_is_allowed(project: Path):
    replace(project, "modelyard.toml", "primary_metric", "primary_metrik")
    error = refused(project, "run", "pipeline.py:train")
    assert "modelyard.toml: unknown key 'models.delay.primary_metrik'" in error
    assert "Did you mean 'primary_metric'?" in error
    assert not (project / ".modelyard" / "yard.db").exists()


def test_an_address_that_no_notification_could_be_sent_to_is_named_by_its_scheme(project: Path):
    file = project / "modelyard.toml"
    file.write_text(file.read_text() + '\n[notify.team]\nurl = "slak://hunter2/x"\n')
    error = refused(project, "up", "--port", "0")
    assert "notify.team.url: Apprise knows no service slak://. Did you mean slack://?" in error
    assert "hunter2" not in error and not (project / ".modelyard" / "yard.db").exists()


def test_a_gate_on_a_metric_that_nobody_logs_says_which_there_are(project: Path):
    replace(project, "modelyard.toml", "roc_auc = {", "f1_at_noon = {")
    error = refused(project, "run", "pipeline.py:train")
    assert "models.delay.gates: the evaluation has no metric 'f1_at_noon'. It has:" in error and "roc_auc" in error
    assert modelyard(project, "versions", "--json").stdout.strip() == "[]"


def test_a_gate_that_fails_is_told_with_its_values(project: Path):
    replace(project, "modelyard.toml", "min = 0.7", "max = 0.7")
    done = modelyard(project, "run", "pipeline.py:train")
    assert done.returncode == 0, done.stderr
    assert "gates failed: roc_auc 1 > 0.7" in done.stdout


def test_a_step_that_raises_is_named_with_its_line(project: Path):
    replace(
        project,
        "pipeline.py",
        "    return LogisticRegression()",
        "    raise KeyError('x')\n    return LogisticRegression()",
    )
    error = refused(project, "run", "pipeline.py:train")
    assert "Step 'fit' raised KeyError: 'x' at pipeline.py:15" in error and "Mend it and run again" in error
    versions = modelyard(project, "versions", "--json")
    assert versions.stdout.strip() == "[]"


def test_the_trace_is_there_when_it_is_asked_for(project: Path):
    replace(
        project,
        "pipeline.py",
        "    return LogisticRegression()",
        "    raise KeyError('x')\n    return LogisticRegression()",
    )
    done = modelyard(project, "--debug", "run", "pipeline.py:train")
    assert done.returncode != 0 and "Traceback" in done.stderr and "raise KeyError('x')" in done.stderr


def test_a_port_in_use_is_named(project: Path):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        error = refused(project, "up", "--port", str(port))
    assert f"Port {port} on 127.0.0.1 cannot be used: Address already in use." in error
    assert "choose another: modelyard up --port" in error


def test_a_folder_that_cannot_be_written_is_named(project: Path):
    error = refused(project, "runs", MODELYARD_HOME="/proc/yard")
    assert "/proc/yard cannot be written" in error and "MODELYARD_HOME" in error


def test_a_full_disk_is_said_and_leaves_nothing_half_written(project: Path, small_disk: Path):
    replace(project, "pipeline.py", "range(400)", "range(400_000)")
    error = refused(project, "run", "pipeline.py:train", MODELYARD_HOME=str(small_disk / "yard"))
    assert "space" in error.lower()
    held = [file for file in small_disk.rglob("*") if file.is_file() and file.stat().st_size > 1_000_000]
    assert held == [], "a half-written object was left"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "pipeline.py:nothing"), "pipeline.py has no pipeline 'nothing'. Its pipelines: train."),
        (("run", "missing.py:train"), "There is no file 'missing.py'"),
        (("run", "pipeline.py:train", "-p", "depth"), "--param 'depth' is not NAME=VALUE"),
        (("versions", "nothing"), "nothing"),
        (("approve", "delay", "--to", "production", "-m", "x"), "does not name a version"),
        (("rollback", "production/delay"), "start the yard here: modelyard up"),
        (("predict", "delay", "--json", "[]"), "does not name an endpoint"),
        (("compare", "delay", "1"), "name=delay, version=1) not found"),
    ],
)
def test_a_wrong_name_says_which_are_right(project: Path, arguments: tuple[str, ...], words: str):
    assert words in refused(project, *arguments)


def test_a_folder_without_a_project_says_how_to_make_one(tmp_path: Path):
    assert "modelyard init" in refused(tmp_path, "runs")


@pytest.mark.parametrize(
    "arguments",
    [("runs",), ("db", "backup", "x.tar"), ("server", "--home", ".modelyard", "--project", ".", "--port", "0")],
)
def test_a_damaged_database_says_how_to_bring_it_back(project: Path, arguments: tuple[str, ...]):
    (project / ".modelyard").mkdir()
    (project / ".modelyard" / "yard.db").write_bytes(b"noise" * 1000)
    assert "modelyard db restore FILE --force" in refused(project, *arguments)
