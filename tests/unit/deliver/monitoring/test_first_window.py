"""Versions that stock MLflow clients registered: judged against their own first window at the endpoint."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from modelyard.deliver.deployments import places
from modelyard.deliver.monitoring import first_window
from modelyard.deliver.serving import log_reader
from modelyard.domain.monitors import Window
from tests.unit.deliver.deployments.house import House

PROJECT = """
[project]
name = "tests"

[environments.production]
approval = "gates"
rollout = { strategy = "all-at-once" }

[models.m]
task = "regression"

[models.m.monitor]
window = { rows = 100 }
"""
TRAIN = """
import mlflow
import pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

X = pd.DataFrame({"x": [float(value) for value in range(50)]})
model = LinearRegression().fit(X, 2 * X["x"])
with mlflow.start_run():
    mlflow.log_metric("rmse", 0.0)
    mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(X, model.predict(X)),
        skops_trusted_types=["numpy.dtype"],
        registered_model_name="m",
    )
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    held = House(tmp_path_factory.mktemp("house"), PROJECT)
    held.start()
    yield held
    held.stop()


def signature(house: House) -> Any:
    digest = house.endpoint()["deployments"]["live"]["digest"]
    return log_reader.signature_of(places.models(house.home, "production") / digest / "MLmodel")


def answer(house: House, values: list[float], first: int) -> None:
    """Ask for each value by its number; wait until the log has them."""
    for number, value in enumerate(values):
        assert house.ask(value, **{"x-request-id": f"r{first + number}"}) == (200, "1")
    folder = places.predictions(house.home, "production", "m")
    read = signature(house)
    house.wait(lambda: log_reader.read(folder, read).num_rows >= first + len(values), "the log")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_version_of_a_stock_client_is_judged_by_its_own_first_window(house: House) -> None:
    told = {"MLFLOW_TRACKING_URI": house.note("server")["url"], "MLFLOW_TRACKING_TOKEN": house.tokens["ana"]}
    subprocess.run([sys.executable, "-c", TRAIN], env=house.environment | told, check=True, timeout=120)
    house.wait(lambda: house.endpoint()["deployments"].get("live"), "v1 to serve")
    house.wait(lambda: house.ask() == (200, "1"), "an answer")  # the log's row 0
    said = house.command("monitor", "run", "m", name="owner")
    assert "registered without a reference window. Its first 100 rows here will be what it is compared with" in said
    assert house.command("monitor", "run", "m", "--json", name="owner").strip() == "[]"

    random = np.random.default_rng(0)
    values = random.normal(20, 3, 310).tolist()  # a window is longer where its last rows share their millisecond
    answer(house, values, 1)
    said = house.command("monitor", "run", "m", name="owner")
    assert "no column drifted; compared with its first window here" in said and "alert" not in said
    noise = random.normal(0, 1, 310) * np.repeat([1, 9], [210, 100])
    labels = [f"r{at + 1},{2 * value + noise[at]}" for at, value in enumerate(values)]
    (house.project / "labels.csv").write_text("\n".join(["id,label", *labels]))
    house.command("ground-truth", "production/m", "labels.csv")
    first, second, third = json.loads(house.command("monitor", "run", "m", "--json", name="owner"))
    assert "in the first labelled window, which later ones are compared with: none was registered" in first["title"]
    assert [item["verdict"] for item in (first, second, third)] == ["ok", "ok", "alert"]
    assert "rmse rose" in third["title"] and third["detail"]["baseline"] == first["detail"]["value"]

    answer(house, random.normal(40, 3, 100).tolist(), 311)
    assert "2 of 2 columns drifted" in house.command("monitor", "run", "m", name="owner")
    folder = places.predictions(house.home, "production", "m")
    kept = first_window.rows(folder, signature(house), 1, Window(rows=100))
    assert kept.column_names == ["x", "prediction"] and kept.num_rows == 100

    # the beginning was no ordinary traffic: a person lets it begin anew, and the next whole window is what counts
    command = ("monitor", "rebase", "m", "-m", "the first hour was the load test")
    assert "no permission monitors:write in production" in house.command(*command, name="boris", fails=True)
    assert "The next whole window that m v1 answers" in house.command(*command)
    (event,) = house.events("monitor.rebased", version=1)
    assert event["actor"] == "otto" and event["data"]["reason"] == "the first hour was the load test"
    said = house.command("monitor", "run", "m", name="owner")
    assert "Its first 100 rows here since 20" in said and "it has answered 0 row(s)" in said
    usual = random.normal(60, 3, 210)
    answer(house, usual.tolist(), 411)
    said = house.command("monitor", "run", "m", name="owner")
    assert said.count("no column drifted; compared with its first window here") == 2
    labels = [f"r{at + 411},{2 * value + 5}" for at, value in enumerate(usual)]
    (house.project / "labels.csv").write_text("\n".join(["id,label", *labels]))
    house.command("ground-truth", "production/m", "labels.csv")
    first, second = json.loads(house.command("monitor", "run", "m", "--json", name="owner"))
    assert (
        "in the first labelled window" in first["title"] and second["detail"]["baseline"] == first["detail"]["value"]
    )
    assert [path.name.partition("-")[0] for path in (folder / first_window.FOLDER).iterdir()] == ["v1", "v1"]
    answer(house, random.normal(20, 3, 100).tolist(), 621)
    assert "2 of 2 columns drifted" in house.command("monitor", "run", "m", name="owner")
