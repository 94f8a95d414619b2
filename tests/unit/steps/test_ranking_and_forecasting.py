"""Models that rank and that forecast, from rows to a gate that holds against the champion."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard import steps
from tests.conftest import RunningServer, start_server

PROJECT = """
[project]
name = "tasks"

[models.search]
task = "ranking"
primary_metric = "ndcg_at_10"

[models.search.gates]
ndcg_at_10 = { min = 0.6, max_regression = 0.01 }

[models.sales]
task = "forecasting"
primary_metric = "mase"

[models.sales.gates]
mase = { max = 1.0, max_regression = 0.02 }
"""
PIPELINE = """
import modelyard as yard
from modelyard import steps


@yard.pipeline
def search(estimator: str = "linear"):
    learn, test = steps.split(steps.read("search.csv"), group="search")
    model = steps.train(learn, target="relevance", task="ranking", estimator=estimator, drop=["search", "country"])
    found = steps.evaluate(model, test, target="relevance", task="ranking", query="search", slices=["country"])
    yard.register("search", model=model, evaluation=found, reference=test)


@yard.pipeline
def sales(estimator: str = "linear"):
    learn, test = steps.split(steps.read("sales.csv"), time="day")
    model = steps.train(learn, target="sold", task="forecasting", estimator=estimator, drop=["day", "store"])
    found = steps.evaluate(
        model, test, target="sold", task="forecasting", history=learn, season=7, series="store", slices=["store"]
    )
    yard.register("sales", model=model, evaluation=found, reference=test)
"""


def searches(count: int = 150, items: int = 12) -> pd.DataFrame:
    """Items whose relevance (0 to 3) follows two features with noise."""
    random = np.random.default_rng(1)
    rows = pd.DataFrame({name: random.normal(size=count * items) for name in ("match", "clicks")})
    wish = rows["match"] + 0.5 * rows["clicks"] + random.normal(size=len(rows)) * 0.5
    rows["relevance"] = np.digitize(wish, [0.5, 1.2, 2.0])
    rows["search"] = np.repeat(np.arange(count), items)
    rows["country"] = np.where(rows["search"] % 3 == 0, "de", "fr")
    return rows


def shops(days: int = 200) -> pd.DataFrame:
    """Two shops' sales with a weekly pattern, and what was sold a day and a week before."""
    random = np.random.default_rng(2)
    parts: list[pd.DataFrame] = []
    for store, level in (("a", 20.0), ("b", 50.0)):
        week = 8 * np.sin(2 * np.pi * np.arange(days) / 7)
        sold = level + week + random.normal(size=days) * 3
        part = pd.DataFrame({"day": np.arange(days), "store": store, "sold": sold})
        parts.append(part.assign(before=part["sold"].shift(1), week_before=part["sold"].shift(7)))
    return pd.concat(parts).dropna().sort_values("day", kind="stable").reset_index(drop=True)


def test_a_ranking_is_learnt_judged_and_compared_within_its_queries() -> None:
    learn, test = steps.split(searches(), group="search")
    train: dict[str, Any] = {"target": "relevance", "task": "ranking", "drop": ["search", "country"]}
    better = steps.train(learn, estimator="linear", **train)
    worse = steps.train(learn, estimator="baseline", **train)
    judge: dict[str, Any] = {"target": "relevance", "task": "ranking", "query": "search"}
    found = steps.evaluate(better, test, slices=["country"], **judge)
    assert next(iter(found.metrics)) == "ndcg_at_10" and found.standard_errors["ndcg_at_10"] > 0
    assert {part["value"] for part in found.slices} == {"de", "fr"}
    assert all("ndcg" in part["metrics"] for part in found.slices)
    assert found.curves["queries"]["x"][-1] == 1.0
    difference = steps.compare(better, worse, test, **judge)["ndcg_at_10"]
    assert 0 < difference["low"] < difference["value"] < difference["high"]
    assert steps.compare(better, better, test, **judge)["mrr"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_a_forecast_is_compared_as_a_course_in_time() -> None:
    learn, test = steps.split(shops(), time="day")
    train: dict[str, Any] = {"target": "sold", "task": "forecasting", "drop": ["day", "store"]}
    better, worse = (steps.train(learn, estimator=name, **train) for name in ("linear", "baseline"))
    found = steps.evaluate(
        better, test, target="sold", task="forecasting", series="store", history=learn, season=7, slices=["store"]
    )
    assert found.metrics["mase"] < 1 and len(found.how["scales"]) == 2 and len(found.slices) == 2
    assert json.loads(json.dumps(found.how)) == found.how
    difference = steps.compare(better, worse, test, "sold", task="forecasting", series="store")
    assert difference["mae"]["high"] < 0 and difference["rmse"]["high"] < 0


@pytest.fixture
def yard(tmp_path: Path) -> Any:
    (tmp_path / "modelyard.toml").write_text(PROJECT)
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    searches().to_csv(tmp_path / "search.csv", index=False)
    shops().to_csv(tmp_path / "sales.csv", index=False)
    running = start_server(tmp_path)
    yield running
    running.stop()


def run(yard: RunningServer, *words: str) -> None:
    command = [sys.executable, "-m", "modelyard", "run", "--no-progress", *words]
    done = subprocess.run(command, cwd=yard.project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("model", "metric"), [("search", "ndcg_at_10"), ("sales", "mase")])
def test_a_worse_model_fails_its_gates_against_the_champion(yard: RunningServer, model: str, metric: str) -> None:
    run(yard, f"pipeline.py:{model}")
    alias = {"name": model, "alias": "champion", "version": "1"}
    yard.client.call("POST", "/api/2.0/mlflow/registered-models/alias", body=alias)
    run(yard, f"pipeline.py:{model}", "-p", "estimator=baseline")
    first, second = (
        [event["type"] for event in yard.client.call("GET", "/api/v1/events", query={"subject": subject})["events"]]
        for subject in (f"version/{model}/1", f"version/{model}/2")
    )
    assert "gates.passed" in first and "gates.failed" in second
    version = yard.client.call("GET", f"/api/v1/models/{model}/versions/2")
    (evaluation,) = [item["content"] for item in version["evidence"] if item["kind"] == "evaluation"]
    difference = evaluation["champion"]["difference"][metric]
    assert difference["low"] * difference["high"] > 0, "beyond noise"
    compared = yard.client.call("GET", f"/api/v1/models/{model}/compare", query={"versions": "1,2"})
    assert compared["primary_metric"] == metric
    card = subprocess.run(
        [sys.executable, "-m", "modelyard", "card", f"{model}/1"], cwd=yard.project, capture_output=True, text=True
    )
    assert metric in card.stdout, card.stderr
