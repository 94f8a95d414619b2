"""Written workflows, against the schemas that the systems publish (vendored by check-jsonschema)."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from modelyard.build.ci import workflows
from modelyard.domain.errors import Invalid
from modelyard.domain.project import parse_project

SCHEMAS = {"github": "vendor.github-workflows", "gitlab": "vendor.gitlab-ci", "azure": "vendor.azure-pipelines"}


def render(small: Path, system: str, branch: str = "main") -> tuple[str, str]:
    return workflows.render(system, parse_project((small / "modelyard.toml").read_text()), branch, small)


@pytest.mark.parametrize("system", list(SCHEMAS))
def test_a_workflow_keeps_its_systems_schema(small: Path, tmp_path: Path, system: str):
    path, text = render(small, system)
    file = tmp_path / Path(path).name
    file.write_text(text)
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[system], str(file)]
    if system == "gitlab":
        command += ["--data-transform", "gitlab-ci"]
    if system == "azure":
        command += ["--data-transform", "azure-pipelines", "--regex-variant", "python"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_broken_workflow_would_not_pass(small: Path, tmp_path: Path):
    file = tmp_path / "modelyard.yml"
    file.write_text(render(small, "github")[1].replace("runs-on:", "runs_on:"))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS["github"], str(file)]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 1


@pytest.mark.parametrize("system", list(workflows.SYSTEMS))
def test_every_workflow_checks_and_trains_on_the_named_branch(small: Path, system: str):
    text = render(small, system, "release/1")[1]
    assert "modelyard ci --gates --out ci-report" in text
    assert "modelyard run pipeline.py:main" in text
    assert "release/1" in text
    assert "__" not in text.replace("__pycache__", "")
    assert max(len(line) for line in text.splitlines()) < 180
    assert len(text.splitlines()) < 80


def test_codebuild_shell_is_valid_and_parsed_as_written(small: Path):
    build = yaml.safe_load(render(small, "codebuild")[1])["phases"]["build"]
    for script in (*build["commands"], *build["finally"]):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_dependencies_come_from_what_the_project_declares(small: Path):
    assert 'pip install --quiet "modelyard[build]"' in render(small, "github")[1]
    (small / "requirements.txt").write_text("lightgbm\n")
    assert '-r requirements.txt "modelyard[build]"' in render(small, "github")[1]


def test_what_cannot_be_written_is_refused(small: Path):
    with pytest.raises(Invalid, match="branch name"):
        render(small, "github", "main]; rm -rf /")
    text = (small / "modelyard.toml").read_text().replace('pipeline = "pipeline.py:main"\n', "")
    (small / "modelyard.toml").write_text(text)
    with pytest.raises(Invalid, match="pipeline"):
        render(small, "github")
