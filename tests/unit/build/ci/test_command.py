"""`modelyard ci` as a person or a workflow runs it."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.conftest import RunningServer
from tests.unit.build.ci.conftest import LIGHT, run_ci


def test_without_a_yard_every_check_answers_and_the_reports_are_there(small: Path):
    (small / "pipeline.py").write_text(LIGHT.format(seed=1, order="sorted"))
    (small / "test_it.py").write_text("import pipeline\n\ndef test_names():\n    assert len(pipeline.names()) == 3\n")
    done, answer = run_ci(small)
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = {check["name"]: check["verdict"] for check in answer["checks"]}
    assert verdicts["tests"] == verdicts["sample"] == verdicts["reproducible"] == "passed"
    assert verdicts["gates"] == verdicts["contracts"] == "skipped"
    reports = Path(answer["reports"])
    assert "every check passed" in (reports / "report.md").read_text()
    assert json.loads((reports / "modelyard.sarif").read_text())["version"] == "2.1.0"
    assert len(ET.parse(reports / "junit.xml").getroot()) == len(verdicts)
    assert not (small / ".modelyard" / "yard.db").exists()


def test_one_exit_code_for_a_broken_project(small: Path):
    (small / "modelyard.toml").write_text("[project]\nnam = 1\n")
    done, answer = run_ci(small, "--only", "project", "--only", "secrets")
    assert done.returncode == 1
    assert [(check["name"], check["verdict"]) for check in answer["checks"]] == [
        ("project", "failed"),
        ("secrets", "passed"),
    ]


def test_an_unknown_check_names_the_known_ones(small: Path):
    done, _ = run_ci(small, "--skip", "tsets")
    assert done.returncode == 1
    assert "tests" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_gates_hold_the_candidate_against_the_champion_of_the_yard(server: RunningServer, small: Path):
    settings = {"MODELYARD_URL": server.url, "MODELYARD_TOKEN": server.token}
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MODELYARD", "MLFLOW"))} | settings
    for file in ("modelyard.toml", "pipeline.py"):
        text = (small / file).read_text().replace("late", "late-ci" if file.endswith("toml") else "late")
        (small / file).write_text(text.replace('register("late"', 'register("late-ci"'))
    command = [sys.executable, "-m", "modelyard", "run", "pipeline.py:main"]
    subprocess.run(command, cwd=small, env=clean, check=True, capture_output=True, timeout=90)
    alias = {"name": "late-ci", "alias": "champion", "version": "1"}
    server.client.call("POST", "/api/2.0/mlflow/registered-models/alias", body=alias)
    worse = (small / "pipeline.py").read_text().replace("fit(rows[", "fit(0 * rows[")
    (small / "pipeline.py").write_text(worse)
    with (small / "modelyard.toml").open("a") as stream:
        stream.write("brier = { max_regression = 0.005 }\n")
    done, answer = run_ci(small, "--gates", "--skip", "reproducible", **settings)
    assert done.returncode == 1
    checks = {check["name"]: check for check in answer["checks"]}
    assert checks["contracts"]["verdict"] == "passed"
    messages = [finding["message"] for finding in checks["gates"]["findings"]]
    assert len(messages) == 2
    assert "worse than champion v1's" in messages[1]
    report = (Path(answer["reports"]) / "report.md").read_text()
    assert "Candidate and champion v1 on the same rows, on the full data." in report
    assert "**▼ worse**" in report
    assert "columns drifted" in report
    assert server.client.call("GET", "/api/v1/models/late-ci/versions/champion")["version"] == 1
