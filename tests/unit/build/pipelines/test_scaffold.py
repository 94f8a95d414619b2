"""Writing a project from a template."""

from pathlib import Path

import pytest

from modelyard.build.pipelines import scaffold
from modelyard.domain.errors import AlreadyExists, NotFound
from modelyard.domain.project import parse_project


def test_the_flights_template_is_a_valid_project(tmp_path: Path):
    written = {file.name for file in scaffold.write("flights", tmp_path)}
    assert written == {"modelyard.toml", "pipeline.py", "test_pipeline.py", "today.txt", "README.md", ".gitignore"}
    project = parse_project((tmp_path / "modelyard.toml").read_text())
    assert project.models["flight-delay"].pipeline == "pipeline.py:train_delay"


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path: Path):
    (tmp_path / "today.txt").write_text("mine")
    with pytest.raises(AlreadyExists, match=r"today\.txt"):
        scaffold.write("flights", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["today.txt"]


def test_an_unknown_template_lists_the_known(tmp_path: Path):
    with pytest.raises(NotFound, match="'trains'") as error:
        scaffold.write("trains", tmp_path)
    assert "flights" in error.value.remedy
