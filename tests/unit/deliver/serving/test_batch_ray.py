"""The parts that local processes make, made by a real Ray cluster of three nodes on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modelyard.deliver.serving.batch import Part, Work
from modelyard.deliver.serving.batch_files import LocalFiles, Source
from modelyard.deliver.serving.batch_ray import _predict  # pyright: ignore[reportPrivateUsage]
from modelyard.deliver.serving.batch_rows import FileRows
from modelyard.kit.ray_cluster import Mark
from tests.conftest import wait_until
from tests.ray_cluster import RayCluster
from tests.unit.deliver.serving.conftest import numeric_model

FILES = 12


def test_a_node_that_does_not_see_the_files_says_so(tmp_path: Path):
    """Asked here, as a node with another disk is: what the runner left there is not to be seen."""
    mark = Mark(tmp_path / "mark")
    source = Source(str(tmp_path / "rows.parquet"), "rows.parquet", "")
    part = Part(source, 0, 10, "rows-00000.parquet", "m")
    work = Work("m", FileRows(LocalFiles()), LocalFiles(tmp_path), (part,))
    assert _predict(work, {}, [mark]).message.endswith(f"does not see {source.name}.")
    mark.file.unlink()
    refused = _predict(work, {}, [mark])
    assert refused.message == f"A node of the Ray cluster does not see {tmp_path}."
    assert "in a bucket" in refused.remedy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _, rows = numeric_model(tmp_path / "m")
    for number in range(FILES):
        (rows + number).to_parquet(tmp_path / f"{number:02d}.parquet")
    return tmp_path


def start(
    cluster: RayCluster | None, folder: Path, output: str, pattern: str = "*.parquet"
) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "modelyard", "predict", "m", "--input", pattern, "--output", output]
    command += ["--engine", "ray"] if cluster else []
    environment = {**os.environ, "RAY_ADDRESS": cluster.address if cluster else ""}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def parts(output: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in output.iterdir()}


@pytest.mark.heavy
@pytest.mark.timeout(700)
def test_the_same_parts_as_here_and_a_killed_run_goes_on(cluster: RayCluster, folder: Path):
    out, errors = start(None, folder, "here").communicate(timeout=200)
    assert json.loads(out)["parts"] == FILES, errors

    killed, out_folder = start(cluster, folder, "there"), folder / "there"
    made = lambda: len(list(out_folder.glob("*.parquet"))) if out_folder.exists() else 0  # noqa: E731
    wait_until(lambda: made() >= 2, "two parts", 200)
    killed.kill()
    killed.communicate()
    kept = made()

    out, errors = start(cluster, folder, "there").communicate(timeout=200)
    found = json.loads(out)
    assert found["parts"] + found["kept"] == FILES, errors
    assert found["kept"] >= kept >= 2
    assert parts(out_folder) == parts(folder / "here")


@pytest.mark.heavy
@pytest.mark.timeout(700)
def test_a_wrong_cell_is_told_as_it_is_here(cluster: RayCluster, folder: Path):
    pd.DataFrame({"a": ["x"], "b": [1.0], "c": [1.0], "d": np.array([1.0])}).to_csv(folder / "w.csv", index=False)
    here = start(None, folder, "here", "w.csv").communicate(timeout=200)[1]
    there = start(cluster, folder, "there", "w.csv").communicate(timeout=200)[1]
    assert "w.csv, row 1: column 'a': expected a number, found text 'x'" in there
    assert there == here
