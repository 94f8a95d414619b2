"""`modelyard predictions` on a yard that is up: what was asked and answered, what became true, who may see it."""

import csv
import json
import os
from collections.abc import Callable

import pyarrow.parquet as pq
import pytest

from modelyard.client.api import path
from modelyard.deliver.deployments import places
from tests.unit.deliver.deployments.house import FAST, House

REDACTED = """
[models.m]
task = "regression"

[models.m.serving.log]
redact = ["secret"]
"""


@pytest.mark.slow
def test_predictions_are_shown_with_their_labels(yard: Callable[..., House]) -> None:
    house = yard(FAST + REDACTED)
    house.ship(columns=("x", "secret"), factor=3.0)

    def ask(number: int, *values: float) -> int:
        body = json.dumps({"inputs": {"x": list(values), "secret": [77.5] * len(values)}}).encode()
        url, token = house.note("gateway-production")["url"], house.tokens["otto"]
        return _ask(url, token, body, f"call-{number}")

    house.wait(lambda: ask(0, 1.0) == 200, "the first answer")
    assert ask(1, 2.0, 4.0) == 200 and ask(2, 5.0) == 200
    (house.project / "labels.csv").write_bytes(b"\xef\xbb\xbfid,label\ncall-1:1,12.5\n")
    house.command("ground-truth", "production/m", "labels.csv")
    (house.project / "labels.csv").write_text("id,label\ncall-2,\n")
    assert "Row 1: 'label' is empty" in house.command("ground-truth", "production/m", "labels.csv", fails=True)

    def told(*more: str) -> list[dict[str, object]]:
        return json.loads(house.command("predictions", "production/m", "--json", *more))

    house.wait(lambda: len(told()) >= 4, "the log")
    newest = told("--limit", "2")
    assert [row["caller_id"] for row in newest] == ["call-2", "call-1"]
    assert (newest[0]["input.x"], newest[0]["prediction"], newest[0]["label"]) == (5.0, 15.0, None)
    (labelled,) = told("--id", "call-1:1")
    assert (labelled["input.x"], labelled["prediction"], labelled["label"]) == (4.0, 12.0, 12.5)
    assert labelled["input.secret"] is None and labelled["version"] == 1
    request, _, row = str(labelled["prediction_id"]).rpartition(":")
    assert row == "1" and len(told("--id", request)) == len(told("--id", "call-1")) == 2
    (house.project / "labels.csv").write_text("id,label\ncall-0,3.5\nnope,1\n")
    heard = house.command("ground-truth", "production/m", "labels.csv", heard=True)
    assert "1 of 2 match no prediction in the log: nope." in heard
    said = house.command("predictions", "production/m", "--id", "nope", "--since", "1h")
    assert "No logged prediction has the id nope in the last 1h." in said and "takes 100%" not in said
    assert told("--id", "call") == [] and len(told("--since", "1h")) == len(told())
    for suffix in ("parquet", "csv", "jsonl"):
        assert "predictions in all." in house.command("predictions", "production/m", "-o", f"all.{suffix}")
    rows = pq.read_table(house.project / "all.parquet").to_pylist()
    assert len(rows) == len(told()) and "77.5" not in (house.project / "all.csv").read_text()
    with (house.project / "all.csv").open(newline="") as stream:
        assert [row["prediction_id"] for row in csv.DictReader(stream)] == [row["prediction_id"] for row in rows]
    assert ".jsonl, .csv, .parquet" in house.command("predictions", "production/m", "-o", "all.xls", fails=True)

    house.client().call("POST", path("principals"), body={"name": "dana", "roles": ["data-scientist"]})
    house.tokens["dana"] = house.client().call("POST", path("tokens"), body={"principal": "dana"})["token"]
    refused = house.command("predictions", "production/m", name="dana", fails=True)
    assert "no permission predictions:read in production" in refused
    assert "no endpoint production/n" in house.command("predictions", "production/n", fails=True)
    (model,) = places.models(house.home, "production").glob("*/MLmodel")
    os.rename(model, model.with_suffix(".away"))
    assert "cannot be read" in house.command("predictions", "production/m", fails=True)


def _ask(url: str, token: str, body: bytes, caller: str) -> int:
    import http.client

    connection = http.client.HTTPConnection(url.partition("://")[2], timeout=60)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json", "x-request-id": caller}
    connection.request("POST", "/endpoints/m/invocations", body, headers)
    status = connection.getresponse().status
    connection.close()
    return status
