"""The tutorial, done as its reader does it: its files in a fresh folder, its commands in their order."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "tutorials"
PAGE = (DOCS / "notebook-to-pipeline.md").read_text()
FILES = DOCS / "notebook-to-pipeline"
BLOCK = re.compile(r'^```\w+ title="(?P<name>[^"]+)"\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)


def test_the_page_shows_the_files_as_they_are():
    shown = {found["name"]: found["text"] for found in BLOCK.finditer(PAGE)}
    mended = shown.pop("mended")
    assert shown == {path.name: path.read_text() for path in FILES.iterdir() if path.is_file()}
    assert "random_state=0" in mended


def run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MODELYARD", "MLFLOW"))}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=clean, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_command_of_the_page_does_what_it_says(tmp_path: Path):
    for path in FILES.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    yard = ("-m", "modelyard")
    notebook = run(tmp_path, "notebook.py")
    assert float(notebook.stdout.split()[-1]) > 0.95
    explored = run(tmp_path, *yard, "explore", "tumours.csv", "--target", "malignant", "--no-track")
    assert "mean_perimeter" in explored.stdout and "linear" in explored.stdout, explored.stderr
    checked = run(tmp_path, *yard, "ci")
    assert checked.returncode == 1
    assert "step 'split' gave other outputs the second time" in checked.stdout
    assert checked.stdout.count("✗") == 1
    pipeline = tmp_path / "pipeline.py"
    mended = next(found["text"] for found in BLOCK.finditer(PAGE) if found["name"] == "mended")
    pipeline.write_text(pipeline.read_text().replace("    test = data.sample(frac=0.25)\n", mended))
    checked = run(tmp_path, *yard, "ci", "--gates")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "2 of 2" in checked.stdout or "3 of 3" in checked.stdout
    assert "roc_auc" in (tmp_path / ".modelyard/ci/report.md").read_text()
    first = run(tmp_path, *yard, "run", "pipeline.py:train")
    assert "registered tumour v1" in first.stdout, first.stderr
    again = run(tmp_path, *yard, "run", "pipeline.py:train")
    assert again.stdout.count("cached") == 4
    other = run(tmp_path, *yard, "run", "pipeline.py:train", "-p", "c=2.0")
    assert other.stdout.count("cached") == 2, other.stdout
    assert run(tmp_path, *yard, "versions", "tumour").returncode == 0
    assert "within noise" in run(tmp_path, *yard, "compare", "tumour", "1", "3").stdout
    assert run(tmp_path, *yard, "ci", "workflow", "github").returncode == 0
    assert (tmp_path / ".github/workflows/modelyard.yml").exists()
