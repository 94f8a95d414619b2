"""A first look at data: what is read, what stands out, and which candidates lead."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import create_engine

from modelyard.build.explore import page
from modelyard.build.explore.exploration import explore
from modelyard.build.explore.profile import foretells, kind_of
from modelyard.build.explore.reading import read
from modelyard.domain.errors import Invalid, NotFound
from tests.conftest import RunningServer


def frame(rows: int = 400) -> pd.DataFrame:
    random = np.random.default_rng(0)
    x = random.normal(size=rows)
    late = (x + random.normal(size=rows) > 0).astype(int)
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "x": x,
            "twin": x * 2 + 1,
            "carrier": random.choice(["AA", "UA", "<b>"], rows),
            "constant": 1,
            "sparse": np.where(random.random(rows) < 0.8, np.nan, x),
            "arrival": late * 3.0 + 1,
            "late": late,
        }
    )


def written(folder: Path, kind: str, data: pd.DataFrame) -> str:
    path = folder / f"flights.{kind}"
    if kind == "parquet":
        data.to_parquet(path)
    elif kind == "csv":
        data.to_csv(path, index=False)
    elif kind == "jsonl":
        data.to_json(path, orient="records", lines=True)
    elif kind == "feather":
        data.to_feather(path, compression="uncompressed")
    else:
        engine = create_engine(f"sqlite:///{path}")
        data.to_sql("flights", engine, index=False)
        engine.dispose()
        return f"sqlite:///{path}#flights"
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl", "feather", "db"])
def test_every_format_reads_the_same_rows(tmp_path: Path, kind: str):
    data = frame()
    sample = read(written(tmp_path, kind, data), 1000)
    assert (sample.name, sample.total_rows, sample.whole) == ("flights", 400, True)
    assert sample.frame["id"].tolist() == data["id"].tolist()
    assert np.allclose(sample.frame["x"], data["x"])


def test_a_large_file_is_sampled_evenly_and_in_order(tmp_path: Path):
    data = pd.DataFrame({"n": np.arange(300_000)})
    sample = read(written(tmp_path, "parquet", data), 5000)
    numbers = sample.frame["n"].to_numpy()
    assert (sample.total_rows, len(numbers), sample.whole) == (300_000, 5000, False)
    assert (np.diff(numbers) > 0).all()
    counts = np.histogram(numbers, bins=10, range=(0, 300_000))[0]
    assert counts.min() > 400 and counts.max() < 600


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("nothing.csv", NotFound, "no file"),
        ("model.pkl", Invalid, "no known format"),
        ("sqlite:///x.db", Invalid, "names no table"),
        ("sqlite:///x.db#none", NotFound, "no table"),
        ("empty.csv", Invalid, "no rows|cannot be read"),
        ("broken.parquet", Invalid, "cannot be read"),
    ],
)
def test_what_cannot_be_read_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, error: type[Exception], words: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.csv").write_text("a,b\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(error, match=words):
        read(source, 1000)


def test_what_would_mislead_is_named_and_left_out_of_the_candidates(tmp_path: Path):
    found = explore(written(tmp_path, "csv", frame()), "late", 1000, 60.0)
    hints = {(item["column"], item["hint"].split(" (")[0]) for item in found["profile"]["hints"]}
    assert ("id", "differs in every row, as an identifier does") in hints
    assert ("constant", "holds one value") in hints
    assert any(column == "sparse" and "missing" in words for column, words in hints)
    assert ("twin", "goes with x") in hints or ("x", "goes with twin") in hints
    assert found["profile"]["hints"][0]["column"] == "arrival"
    board = found["leaderboard"]
    assert board["suspects"] == ["arrival"]
    assert not {"id", "constant", "arrival", "late"} & set(board["features"])
    scores = {item["name"]: item["score"] for item in board["candidates"]}
    assert scores["baseline"] == 0.5
    assert 0.7 < scores["linear"] < 0.95
    assert board["candidates"][0]["tied"] and not board["candidates"][-1]["tied"]
    assert all(item["standard_error"] > 0 for item in board["candidates"] if item["name"] != "baseline")
    text = page.render(found)
    assert "<b>&lt;b&gt;" not in text and "&lt;b&gt;" in text
    assert not re.search(r"(src|href)=", text)


def test_a_candidate_that_does_not_fit_the_budget_is_named(tmp_path: Path):
    found = explore(written(tmp_path, "csv", frame(200)), "x", 1000, 0.0)
    assert found["leaderboard"]["task"] == "regression"
    assert [item["name"] for item in found["leaderboard"]["candidates"]] == ["baseline"]
    assert found["leaderboard"]["left_out"] == ["linear", "boosting", "forest"]


def test_several_classes_and_an_unknown_target(tmp_path: Path):
    data = frame(200).assign(grade=lambda rows: pd.cut(rows["x"], 3, labels=["low", "mid", "high"]).astype(str))
    source = written(tmp_path, "parquet", data)
    found = explore(source, "grade", 1000, 0.0)
    assert found["profile"]["target"]["task"] == "multiclass"
    assert sum(found["profile"]["target"]["shares"].values()) == pytest.approx(1.0)
    with pytest.raises(Invalid, match="no column 'grades'"):
        explore(source, "grades", 1000, 0.0)


def test_kinds_and_how_well_one_column_foretells():
    data = frame()
    assert [kind_of(data[name]) for name in ("x", "carrier")] == ["number", "category"]
    assert kind_of(pd.Series([True, False])) == "truth"
    assert kind_of(pd.Series(pd.to_datetime(["2020-01-01"]))) == "time"
    assert foretells(-data["late"], data["late"], "binary") == 1.0
    assert foretells(data["carrier"], data["late"], "binary") < 0.6  # type: ignore[operator]
    assert foretells(data["x"], data["twin"], "regression") == pytest.approx(1.0)


def run(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "modelyard", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=110, check=False
    )


def test_the_command_writes_a_page_and_tracks_the_candidates(server: RunningServer, tmp_path: Path):
    (tmp_path / "modelyard.toml").write_text('[project]\nname = "look"\n')
    frame(200).to_csv(tmp_path / "first.csv", index=False)
    settings = {"MODELYARD_URL": server.url, "MODELYARD_TOKEN": server.token}
    done = run(tmp_path, "explore", "first.csv", "--target", "late", "--budget", "0", "--json", **settings)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    (run_id,) = answer["runs"]
    tracked = server.client.call("GET", f"/api/v1/runs/{run_id}")
    assert (tracked["experiment"], tracked["name"], tracked["status"]) == ("explore/first", "baseline", "FINISHED")
    assert tracked["metrics"]["roc_auc"] == 0.5
    assert "<h2>Candidates</h2>" in (tmp_path / "first.html").read_text()


def test_a_notebook_needs_jupyter_and_says_so(tmp_path: Path):
    done = run(tmp_path, "lab")
    assert done.returncode == 1
    assert "pip install 'modelyard[lab]'" in done.stderr
