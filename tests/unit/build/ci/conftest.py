"""A small real project, with data that it makes itself, to run checks on."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.build.ci.context import Context
from modelyard.domain.project import parse_project

PROJECT = """
[project]
name = "small"

[models.late]
task = "binary"
pipeline = "pipeline.py:main"
primary_metric = "roc_auc"

[models.late.gates]
roc_auc = { min = 0.6 }
"""
PIPELINE = """
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

import modelyard as yard


@yard.step
def load() -> pd.DataFrame:
    random = np.random.default_rng(1)
    rows = pd.DataFrame({name: random.normal(size=600) for name in ("x", "z")})
    return rows.assign(late=(rows["x"] + random.normal(size=600) > 0).astype(int))


@yard.step
def fit(rows: pd.DataFrame) -> LogisticRegression:
    return LogisticRegression().fit(rows[["x", "z"]], rows["late"])


@yard.step
def evaluate(model: LogisticRegression, rows: pd.DataFrame) -> yard.Evaluation:
    return yard.evaluate_binary(model, rows, label="late", features=["x", "z"])


@yard.pipeline
def main():
    rows = load()
    model = fit(rows)
    yard.register("late", model=model, evaluation=evaluate(model, rows), reference=rows)
"""

LIGHT = """
import random

import modelyard as yard


@yard.step
def draw(seed: int | None) -> float:
    return random.Random(seed).random()


@yard.step
def names() -> list[str]:
    return {order}({{"b", "a", "c"}})


@yard.step
def total(number: float, words: list[str]) -> dict[str, float]:
    return {{"total": number + len(words), "seconds": random.random()}}


@yard.pipeline
def main():
    total(draw({seed}), names())
"""
"""Three steps without a library: draw, names, total; `seed` and `order` make them reproducible or not."""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The folder of a project that passes every check."""
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "modelyard.toml").write_text(PROJECT)
    (folder / "pipeline.py").write_text(PIPELINE)
    return folder


@pytest.fixture
def context(small: Path, tmp_path: Path) -> Callable[..., Context]:
    """Makes a context of the project as it stands when called."""

    def make(**options: Any) -> Context:
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        project = parse_project((small / "modelyard.toml").read_text())
        return Context(small, project, scratch, options.pop("sample", 1.0), **options)

    return make


def run_ci(folder: Path, *options: str, **environment: str) -> "tuple[subprocess.CompletedProcess[str], Any]":
    """The finished process of `modelyard ci --json`, and its answer."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MODELYARD", "MLFLOW"))}
    command = [sys.executable, "-m", "modelyard", "ci", "--json", *options]
    done = subprocess.run(
        command, cwd=folder, env={**clean, **environment}, capture_output=True, text=True, timeout=110, check=False
    )
    return done, json.loads(done.stdout) if done.stdout.strip() else None
