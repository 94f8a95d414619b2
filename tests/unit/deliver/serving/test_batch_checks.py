"""Batch prediction with rows that do not fit: named by file, row, column and value, or set aside."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from modelyard.deliver.serving import batch
from modelyard.deliver.serving.batch_files import LocalFiles
from modelyard.domain.errors import Invalid
from tests.unit.deliver.models import coded_model
from tests.unit.deliver.serving.conftest import numeric_model

CODES = '''
class Codes:
    """Answers the length of a code, plus x; raises for a code that begins with a star."""

    def predict(self, frame):
        if any(code.startswith("*") for code in frame["code"]):
            raise KeyError("no star")
        return [len(code) + x for code, x in zip(frame["code"], frame["x"])]
'''
FEW = 50


@pytest.fixture
def codes(tmp_path: Path) -> Path:
    """A folder whose model takes a whole number `x` and a text `code`."""
    coded_model(tmp_path / "m", "codes", CODES, lambda module: module.Codes())
    described = (tmp_path / "m" / "MLmodel").read_text()
    inputs = [{"name": "x", "type": "long", "required": True}, {"name": "code", "type": "string", "required": True}]
    lines = [line for line in described.splitlines() if not line.startswith(" ") and "signature" not in line]
    assert lines
    import yaml

    content = yaml.safe_load(described)
    content["signature"] = {"inputs": json.dumps(inputs), "outputs": None, "params": None}
    (tmp_path / "m" / "MLmodel").write_text(yaml.safe_dump(content))
    return tmp_path


def run(folder: Path, pattern: str, *, aside: bool = False, rows: int = FEW, workers: int = 1) -> batch.Done:
    place = LocalFiles(folder / "aside") if aside else None
    out = LocalFiles(folder / "out")
    return batch.run(folder / "m", str(folder / pattern), out, workers, lambda *_: None, rows, aside=place)


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def written(folder: Path, pattern: str = "*") -> pd.DataFrame:
    return pd.concat(
        [pq.read_table(file).to_pandas() for file in sorted((folder / "out").glob(f"{pattern}.parquet"))]
    )


@pytest.mark.parametrize("at", [0, 1, 49, 50, 39_999])
def test_the_row_that_does_not_fit_is_named_wherever_it_is(tmp_path: Path, at: int):
    """The file is larger than what is read at a time."""
    _, rows = numeric_model(tmp_path / "m")
    many = pd.concat([rows] * 200, ignore_index=True).astype({"b": object})
    many.loc[at, "b"] = "far"
    many.to_csv(tmp_path / "in.csv", index=False)
    said = rf"in\.csv, row {at + 1}: column 'b': expected a number, found text 'far'"
    with pytest.raises(Invalid, match=said) as error:
        run(tmp_path, "in.csv", rows=20_000)
    assert "--set-aside" in error.value.remedy
    done = [file.name for file in sorted((tmp_path / "out").glob("*"))]
    assert done == (["in-00000.parquet"] if at >= 20_000 else [])


def test_rows_that_do_not_fit_are_set_aside_and_the_others_predicted(codes: Path):
    lines = ["x,code,note"] + [f"{n},{n:05d},{n}" for n in range(1, 121)]
    lines[7] = "7,00007"
    lines[9] = "near,00009,9"
    lines[60] = ",00060,60"
    lines[61] = "61,00061,a word"
    lines[62] = "99999999999999999999,00062,62"
    (codes / "in.csv").write_text("\n".join(lines) + "\n")
    done = run(codes, "in.csv", aside=True)
    assert (done.rows, done.parts, done.kept, done.aside) == (116, 3, 0, 4)
    found = written(codes)
    good = [n for n in range(1, 121) if n not in (7, 9, 60, 62)]
    assert found["x"].tolist() == good and found["x"].dtype == np.int64
    assert found["code"].tolist() == [f"{n:05d}" for n in good]
    assert found["prediction"].tolist() == [5 + n for n in good]
    assert read(codes / "aside" / "in-lines.csv") == [
        {"row": "7", "problem": "2 cells; the header has 3.", "line": "7,00007"}
    ]
    (near,) = read(codes / "aside" / "in-00000.csv")
    assert (near["row"], near["x"], near["code"]) == ("9", "near", "00009")
    assert near["problem"] == "Column 'x': expected a whole number, found text 'near'."
    assert [row["row"] for row in read(codes / "aside" / "in-00001.csv")] == ["60", "62"]
    assert not (codes / "aside" / "in-00002.csv").exists()

    again = run(codes, "in.csv", aside=True)
    assert (again.rows, again.kept, again.aside) == (0, 3, 4)
    with pytest.raises(Invalid, match=r"in\.csv cannot be read: row 7: Expected 3 columns, got 2"):
        run(codes, "in.csv")
    lines[7], lines[9] = "7,00007,7", "9,00009,9"
    (codes / "in.csv").write_text("\n".join(lines) + "\n")
    mended = run(codes, "in.csv", aside=True)
    assert (mended.rows, mended.aside) == (118, 2)
    assert sorted(file.name for file in (codes / "aside").iterdir()) == ["in-00001.csv"]
    with pytest.raises(Invalid, match=r"in\.csv, row 60: column 'x': expected a whole number, found nothing"):
        run(codes, "in.csv")


def test_a_part_that_lacks_rows_is_no_part_of_a_run_that_sets_none_aside(codes: Path):
    rows = [{"x": n, "code": "a"} for n in range(100)]
    table = pd.DataFrame(rows).astype({"x": "Int64"})
    table.loc[70, "x"] = None
    table.to_parquet(codes / "in.parquet")
    assert run(codes, "in.parquet", aside=True).aside == 1
    with pytest.raises(Invalid, match=r"in\.parquet, row 71: column 'x'"):
        run(codes, "in.parquet")
    assert run(codes, "in.parquet", aside=True).kept == 2


def test_cells_are_read_as_the_model_has_them(codes: Path):
    """Codes of digits stay text, blank lines are no rows, columns that are not the model's come as they are."""
    text = '\ufeffx,code,more\n1,007,1\n\n 2.0 ,NA,"a\nb"\nTRUE,x,3\n'
    (codes / "in.csv").write_text(text)
    done = run(codes, "in.csv", aside=True)
    assert (done.rows, done.aside) == (2, 1)
    found = written(codes)
    assert found["code"].tolist() == ["007", "NA"] and found["more"].tolist() == ["1", "a\nb"]
    assert found["prediction"].tolist() == [4, 4]


def test_nothing_fits(codes: Path):
    (codes / "in.csv").write_text("x,code\na,b\nc,d\n")
    with pytest.raises(Invalid, match=r"No row of .* fits the model"):
        run(codes, "in.csv", aside=True)
    (codes / "semicolons.csv").write_text("x,code\n1;b;3,,\n2;d;4,,\n")
    with pytest.raises(Invalid, match=r"row 1: 3 cells; the header has 2"):
        run(codes, "semicolons.csv", aside=True)
    (codes / "other.csv").write_text("y,code\n1,b\n")
    with pytest.raises(Invalid, match=r"other\.csv: Missing column\(s\): x"):
        run(codes, "other.csv", aside=True)
    (codes / "twice.csv").write_text("x,x,code\n1,1,b\n")
    with pytest.raises(Invalid, match=r"its header has 'x' twice"):
        run(codes, "twice.csv")


def test_rows_that_the_model_raises_for_are_found(codes: Path):
    lines = ["x,code"] + [f"{n},a" for n in range(1, 201)]
    lines[70], lines[90], lines[120] = "70,*", "90,*b", "far,c"
    (codes / "in.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(Invalid, match=r"in\.csv, row 70: the model raised KeyError: 'no star'"):
        run(codes, "in.csv")
    done = run(codes, "in.csv", aside=True, rows=150)
    assert (done.rows, done.parts, done.aside) == (197, 2, 3)
    aside = read(codes / "aside" / "in-00000.csv")
    assert [(row["row"], row["code"]) for row in aside] == [("70", "*"), ("90", "*b"), ("120", "c")]
    assert aside[1]["problem"] == "the model raised KeyError: 'no star'"
    assert 70 not in written(codes)["x"].tolist() and len(written(codes)) == 197


def test_nothing_where_the_model_takes_none(tmp_path: Path):
    """A null is no mistake of a number's column, but this model has no answer to it."""
    numeric_model(tmp_path / "m")
    (tmp_path / "in.csv").write_text("a,b,c,d\n1,2,3,4\n1,NA,3,4\n1,2,3,x\n")
    with pytest.raises(Invalid, match=r"in\.csv, row 2: the model raised ValueError: Input X contains NaN"):
        run(tmp_path, "in.csv", rows=2)
    assert (done := run(tmp_path, "in.csv", aside=True)).rows == 1 and done.aside == 2


def test_by_command_on_several_processes(codes: Path):
    for name in ("one", "two"):
        (codes / f"{name}.csv").write_text("x,code\n1,a\nfar,b\n")
    command = [
        sys.executable,
        "-m",
        "modelyard",
        "predict",
        "m",
        "--input",
        "*.csv",
        "--output",
        "out",
        "--workers",
        "2",
    ]

    def told(*more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*command, *more], cwd=codes, capture_output=True, text=True, timeout=110)

    refused = told()
    assert (
        refused.returncode == 1 and "row 2: column 'x': expected a whole number, found text 'far'" in refused.stderr
    )
    assert "--set-aside" in refused.stderr and "Traceback" not in refused.stderr
    expected: dict[str, Any] = {"rows": 2, "parts": 2, "kept": 0, "output": "out", "set_aside": 2}
    assert json.loads(told("--set-aside", "aside").stdout) == expected
    assert sorted(file.name for file in (codes / "aside").iterdir()) == ["one-00000.csv", "two-00000.csv"]
