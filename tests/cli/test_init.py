"""`modelyard init` for a table of one's own: it runs, is checked, registers; what cannot be learnt is said."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_wine
from statsmodels.datasets import fair

from modelyard.domain.project import parse_project


def modelyard(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MODELYARD", "MLFLOW"))}
    return subprocess.run(
        [sys.executable, "-m", "modelyard", *arguments],
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


def wine() -> pd.DataFrame:
    bunch: Any = load_wine(as_frame=True)
    return bunch.frame.assign(target=bunch.frame["target"].map({0: "barolo", 1: "grignolino", 2: "barbera"}))


def diabetes() -> pd.DataFrame:
    bunch: Any = load_diabetes(as_frame=True, scaled=False)
    return bunch.frame


def affairs() -> pd.DataFrame:
    rows = fair.load_pandas().data.sample(2000, random_state=0)
    had = (rows["affairs"] > 0).map({True: "yes", False: "no"})
    return rows.drop(columns="affairs").assign(target=had, person=[f"p{number}" for number in range(len(rows))])


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("rows", "task", "metric"),
    [(affairs, "binary", "roc_auc"), (wine, "multiclass", "accuracy"), (diabetes, "regression", "r2")],
)
def test_a_project_for_a_table_runs_is_checked_and_registers(tmp_path: Path, rows: Any, task: str, metric: str):
    rows().to_csv(tmp_path / "table.csv", index=False)
    made = modelyard(tmp_path, "init", "first", "--data", "table.csv", "--target", "target")
    assert made.returncode == 0 and task in made.stdout, made.stderr
    folder = tmp_path / "first"
    declared = parse_project((folder / "modelyard.toml").read_text()).models["first"]
    assert declared.task == task and declared.primary_metric == metric
    assert "person" not in (folder / "contract.toml").read_text()
    ran = modelyard(folder, "run")
    assert "registered first v1" in ran.stdout and "gates passed" in ran.stdout, ran.stdout + ran.stderr
    assert modelyard(folder / "data", "run").stdout.count("cached") == 5  # from a folder below as well
    assert metric in modelyard(folder, "versions", "first").stdout
    checked = modelyard(folder, "ci", "--skip", "dependencies")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_without_a_table_the_project_is_an_example(tmp_path: Path):
    made = modelyard(tmp_path, "init", "example")
    assert made.returncode == 0 and "binary, 569 rows" in made.stdout
    assert (tmp_path / "example" / "data" / "tumours.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "none.csv", "--target", "x"], "There is no file none.csv"),
        (["--data", "table.csv"], "Which column is to be predicted? Add --target with one of: x, same, name"),
        (["--data", "table.csv", "--target", "y"], "no column 'y'"),
        (["--data", "table.csv", "--target", "same"], "holds one value only"),
        (["--target", "x"], "--target names a column of --data"),
        (["--data", "few.csv", "--target", "x"], "few.csv has 3 rows"),
        (["--data", "names.csv", "--target", "x"], "no column that a model could use"),
        (["--template", "flights", "--target", "x"], "has its own data"),
    ],
)
def test_what_nothing_can_be_learnt_of_is_said_and_nothing_written(tmp_path: Path, arguments: list[str], says: str):
    rows = pd.DataFrame({"x": range(100), "same": [1] * 100, "name": [f"n{number}" for number in range(100)]})
    rows.to_csv(tmp_path / "table.csv", index=False)
    rows.head(3).to_csv(tmp_path / "few.csv", index=False)
    rows[["x", "name"]].assign(x=rows["x"] % 2).to_csv(tmp_path / "names.csv", index=False)
    made = modelyard(tmp_path, "init", "p", *arguments)
    assert made.returncode == 1 and says in made.stderr and "Traceback" not in made.stderr, made.stderr
    assert not (tmp_path / "p").exists()


def test_a_pipeline_is_only_chosen_where_there_is_one(tmp_path: Path):
    (tmp_path / "modelyard.toml").write_text('[project]\nname = "p"\n')
    told = modelyard(tmp_path, "run")
    assert told.returncode == 1 and "it declares none" in told.stderr
