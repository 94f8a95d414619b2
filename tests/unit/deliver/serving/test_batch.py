"""Files in, predictions out; stopped and gone on with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from modelyard.deliver.serving import batch
from modelyard.deliver.serving.batch_files import LocalFiles
from modelyard.domain.errors import Invalid
from modelyard.kit.processes import descendants
from tests.conftest import wait_until
from tests.unit.deliver.deployments.house import running
from tests.unit.deliver.serving.conftest import numeric_model


def quiet(done: int, total: int) -> None:
    assert 0 <= done <= total


def read(output: Path) -> pd.DataFrame:
    return pd.concat(
        [pq.read_table(file).to_pandas() for file in sorted(output.glob("*.parquet"))], ignore_index=True
    )


def test_files_become_parts_with_inputs_and_predictions_and_are_not_done_twice(tmp_path: Path):
    model, rows = numeric_model(tmp_path / "m")
    rows.iloc[:120].to_csv(tmp_path / "one.csv", index=False)
    rows.iloc[120:].to_parquet(tmp_path / "two.parquet")
    first = batch.run(tmp_path / "m", str(tmp_path / "*.[cp]*"), LocalFiles(tmp_path / "out"), 1, quiet, rows=50)
    assert (first.rows, first.parts, first.kept) == (200, 5, 0)
    found = read(tmp_path / "out")
    np.testing.assert_allclose(found[["prediction_0", "prediction_1"]], model.predict_proba(rows), rtol=1e-12)
    np.testing.assert_allclose(found[["a", "b", "c", "d"]], rows)
    (tmp_path / "out" / "one-00001.parquet").unlink()
    (tmp_path / "out" / "two-00000.parquet").write_bytes(b"torn")
    again = batch.run(tmp_path / "m", str(tmp_path / "*.[cp]*"), LocalFiles(tmp_path / "out"), 1, quiet, rows=50)
    assert (again.rows, again.parts, again.kept) == (100, 2, 3)
    assert len(read(tmp_path / "out")) == 200
    rows.iloc[:10].to_csv(tmp_path / "one.csv", index=False)
    rows.to_parquet(tmp_path / "out" / "one-00009.parquet")
    rows.to_parquet(tmp_path / "out" / "one-more.parquet")
    less = batch.run(tmp_path / "m", str(tmp_path / "one.csv"), LocalFiles(tmp_path / "out"), 1, quiet, rows=50)
    assert less.parts == 1
    left = sorted(file.name for file in (tmp_path / "out").glob("one*"))
    assert left == ["one-00000.parquet", "one-00009.parquet", "one-more.parquet"], (
        "only what an earlier run wrote goes"
    )


def test_predictions_are_not_written_where_they_would_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _, rows = numeric_model(tmp_path / "m")
    (tmp_path / "in" / "day=1").mkdir(parents=True)
    rows.to_parquet(tmp_path / "in" / "day=1" / "a.parquet")
    monkeypatch.chdir(tmp_path)
    for place in ("in", "./in/predicted"):
        with pytest.raises(Invalid, match=r"would match what is written .*in.*day=1/a-00000\.parquet"):
            batch.run(tmp_path / "m", "in/**/*.parquet", LocalFiles(Path(place)), 1, quiet)
    assert batch.run(tmp_path / "m", "in/**/a.parquet", LocalFiles(Path("in")), 1, quiet).rows == len(rows)


def test_a_wrong_cell_names_file_column_and_row_and_leaves_what_was_done(tmp_path: Path):
    numeric_model(tmp_path / "m")
    pd.DataFrame({"a": [1.0], "b": [1.0], "c": [1.0], "d": [1.0]}).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame({"a": ["x"], "b": [1.0], "c": [1.0], "d": [1.0]}).to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(Invalid, match=r"b\.csv, row 1: column 'a': expected a number, found text 'x'"):
        batch.run(tmp_path / "m", str(tmp_path / "*.csv"), LocalFiles(tmp_path / "out"), 1, quiet)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["a-00000.parquet"]
    with pytest.raises(Invalid, match="No file matches"):
        batch.run(tmp_path / "m", str(tmp_path / "*.nothing"), LocalFiles(tmp_path / "out"), 1, quiet)


def test_by_command_on_several_processes(tmp_path: Path):
    model, rows = numeric_model(tmp_path / "m")
    for number in range(2):
        rows.to_parquet(tmp_path / f"{number}.parquet")
    command = [sys.executable, "-m", "modelyard", "predict", str(tmp_path / "m"), "--workers", "2"]
    command += ["--input", str(tmp_path / "*.parquet"), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"rows": 400, "parts": 2, "kept": 0, "output": str(tmp_path / "out")}
    expected = model.predict_proba(rows)[:, 1]
    np.testing.assert_allclose(read(tmp_path / "out")["prediction_1"], [*expected, *expected], rtol=1e-12)


def test_its_processes_end_when_the_command_is_killed(tmp_path: Path):
    _, rows = numeric_model(tmp_path / "m")
    for number in range(2):
        rows.to_parquet(tmp_path / f"{number}.parquet")
    command = [sys.executable, "-m", "modelyard", "predict", str(tmp_path / "m"), "--workers", "2"]
    command += ["--input", str(tmp_path / "*.parquet"), "--output", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(descendants(process.pid)) >= 3 and descendants(process.pid), "the processes")
    started = descendants(process.pid)
    process.kill()
    process.wait(10)
    wait_until(lambda: not any(map(running, started)), "them to end")


def test_libraries_that_cannot_be_had_are_said_and_ours_taken_when_asked(tmp_path: Path):
    _, rows = numeric_model(tmp_path / "m")
    (tmp_path / "m" / "requirements.txt").write_text("scikit-learn==0.1\n")
    rows.head(3).to_csv(tmp_path / "rows.csv", index=False)
    command = [sys.executable, "-m", "modelyard", "predict", "m", "--input", "rows.csv", "--output", "out"]

    def run(*more: str) -> "subprocess.CompletedProcess[str]":
        nowhere = {**os.environ, "UV_NO_INDEX": "1", "UV_OFFLINE": "1"}
        return subprocess.run(
            [*command, *more], cwd=tmp_path, env=nowhere, capture_output=True, text=True, timeout=110
        )

    refused = run()
    assert refused.returncode == 1 and refused.stdout == ""
    assert "scikit-learn==0.1, here" in refused.stderr and "--libraries shared" in refused.stderr
    assert json.loads(run("--libraries", "shared").stdout)["rows"] == 3
