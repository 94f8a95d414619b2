"""Workflows for other systems: short text files from templates, made for this project."""

import re
import shlex
import tomllib
from pathlib import Path

from modelyard.domain.errors import Invalid
from modelyard.domain.project import Project

TEMPLATES = Path(__file__).with_name("templates")
SYSTEMS: dict[str, tuple[str, str]] = {
    "github": ("github.yml", ".github/workflows/modelyard.yml"),
    "gitlab": ("gitlab.yml", ".gitlab-ci.yml"),
    "azure": ("azure.yml", "azure-pipelines.yml"),
    "codebuild": ("codebuild.yml", "buildspec.yml"),
    "jenkins": ("Jenkinsfile", "Jenkinsfile"),
}
"""By system: its template, and where the system looks for the file."""
BRANCH = re.compile(r"^[A-Za-z0-9._/-]+$")
RUNS = re.compile(r"^__RUNS:(?P<line>.*?)__$", re.MULTILINE | re.DOTALL)


def render(system: str, project: Project, branch: str, folder: Path) -> tuple[str, str]:
    """(path, text) of the workflow. Raises Invalid for a branch that no file may hold, or without a pipeline."""
    if not BRANCH.match(branch):
        raise Invalid(f"{branch!r} is not a branch name.", remedy="Letters, digits and . _ / - are taken.")
    pipelines = sorted({model.pipeline for model in project.models.values() if model.pipeline})
    if not pipelines:
        raise Invalid(
            "No model of this project names its pipeline, so there is nothing to run after a merge.",
            remedy="Write under [models.NAME] in modelyard.toml: pipeline = 'pipeline.py:train'",
        )
    template, path = SYSTEMS[system]
    text = (TEMPLATES / template).read_text()
    commands = [f"modelyard run {shlex.quote(pipeline)} --no-progress" for pipeline in pipelines]
    text = RUNS.sub(lambda found: "\n".join(found["line"].replace("{run}", command) for command in commands), text)
    return path, text.replace("__BRANCH__", branch).replace("__INSTALL__", install_command(folder))


def install_command(folder: Path) -> str:
    """How the project's dependencies are installed: from its requirements, its pyproject.toml, or modelyard alone."""
    if (folder / "requirements.txt").exists():
        return 'pip install --quiet -r requirements.txt "modelyard[build]"'
    try:
        declared = tomllib.loads((folder / "pyproject.toml").read_text())
    except (OSError, tomllib.TOMLDecodeError):
        declared = {}
    return (
        'pip install --quiet . "modelyard[build]"'
        if "project" in declared
        else 'pip install --quiet "modelyard[build]"'
    )
