"""Comparing, cards and lineage over the API of a real server, with predictions stored on the same rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard.client.api import Client
from modelyard.domain.errors import Invalid, NotFound
from tests.conftest import RunningServer


def register(client: Client, folder: Path, label: Any, prediction: Any, auc: float) -> int:
    run = client.call("POST", "/api/v1/runs", body={"experiment": "compare", "name": "r"})
    file = folder / "reference.parquet"
    pd.DataFrame({"x": prediction * 2, "label": label, "prediction": prediction}).to_parquet(file)
    reference = f"{run['artifact_root']}/reference/reference.parquet"
    client.upload("PUT", f"/api/v1/artifacts/{reference}", file.read_bytes())
    made = client.call("POST", f"/api/v1/runs/{run['id']}/logged-models", body={"name": "model"})
    client.upload("PUT", f"/api/v1/artifacts/{made['artifact_root']}/model.bin", repr(auc).encode())
    evaluation = {"metrics": {"roc_auc": auc}, "dataset": "same" * 16, "rows": len(label), "reference": reference}
    body = {"source": f"models:/{made['id']}", "run_id": run["id"], "evaluation": evaluation}
    return client.call("POST", "/api/v1/models/compared/versions", body=body)["version"]


@pytest.fixture(scope="module")
def client(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Client:
    random = np.random.default_rng(0)
    label = (random.random(3000) < 0.3).astype(int)
    first = np.clip(0.3 + 0.2 * (label - 0.3) + random.normal(0, 0.15, 3000), 0.001, 0.999)
    second = np.clip(first + 0.08 * (label - 0.3), 0.001, 0.999)
    folder = tmp_path_factory.mktemp("references")
    for prediction, auc in ((first, 0.80), (second, 0.85)):
        register(server.client, folder, label, prediction, auc)
    return server.client


def test_stored_predictions_decide(client: Client) -> None:
    found = client.call("GET", "/api/v1/models/compared/compare", query={"versions": "1,2"})
    (difference,) = found["metrics"][0]["differences"]
    assert difference["how"] == "paired on the same rows"
    assert 0 < difference["low"] < difference["value"] < difference["high"]
    assert found["verdicts"][0]["better"] == "v2" and found["verdicts"][0]["beyond_noise"] is True
    assert found["same_data"] is True


def test_a_version_is_not_compared_with_itself(client: Client) -> None:
    with pytest.raises(Invalid, match="two or more different versions"):
        client.call("GET", "/api/v1/models/compared/compare", query={"versions": "2,latest"})
    with pytest.raises(NotFound):
        client.call("GET", "/api/v1/models/compared/compare", query={"versions": "1,99"})


def test_card_and_lineage(client: Client) -> None:
    page = client.download("/api/v1/models/compared/versions/2/card.html").decode()
    assert page.startswith("<!doctype html>") and "compared v2" in page
    graph = client.call("GET", "/api/v1/models/compared/versions/2/lineage")
    assert {node["kind"] for node in graph["nodes"]} >= {"dataset", "run", "logged model", "version"}
