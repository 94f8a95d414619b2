"""Classes by name, rankings and forecasts, watched live: from a pipeline through a gateway and labels to an alert."""

import csv
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import urllib3
from sklearn.datasets import load_digits

from modelyard.deliver.deployments import places
from modelyard.deliver.serving import log_reader
from tests.unit.deliver.deployments.house import House
from tests.unit.steps.test_ranking_and_forecasting import searches, shops

PROJECT = """
[project]
name = "tasks"

[environments.production]
approval = "gates"
rollout = { strategy = "all-at-once" }

[models.digit]
task = "multiclass"
protected = ["pen"]

[models.digit.monitor]
window = { rows = 300 }
bias = { max_quality_gap = 0.2, least_rows = 50 }

[models.search]
task = "ranking"

[models.search.monitor]
window = { rows = 360 }
explanations = { rows = 100 }

[models.sales]
task = "forecasting"
primary_metric = "mase"

[models.sales.monitor]
window = { rows = 140 }
"""
PIPELINE = """
import modelyard as yard
from modelyard import steps
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline


@yard.step
def fit(rows: "pd.DataFrame") -> Pipeline:
    inputs = rows.drop(columns="digit")
    told = make_column_transformer(("drop", ["pen"]), remainder="passthrough")
    return make_pipeline(told, LogisticRegression(max_iter=300, C=0.01)).fit(inputs, rows["digit"])


@yard.pipeline
def digit():
    learn, test = steps.split(steps.read("digits.csv"), test=0.6)
    model = fit(learn)
    found = steps.evaluate(model, test, target="digit", protected=["pen"])
    yard.register("digit", model=model, evaluation=found, reference=test, answers="probabilities")


@yard.pipeline
def search():
    learn, test = steps.split(steps.read("search.csv"), group="search")
    model = steps.train(learn, target="relevance", task="ranking", estimator="linear", drop=["search", "country"])
    found = steps.evaluate(model, test, target="relevance", task="ranking", query="search")
    yard.register("search", model=model, evaluation=found, reference=test)


@yard.pipeline
def sales():
    learn, test = steps.split(steps.read("sales.csv"), time="day")
    model = steps.train(learn, target="sold", task="forecasting", estimator="linear", drop=["day"])
    found = steps.evaluate(model, test, target="sold", task="forecasting", history=learn, season=7, series="store")
    yard.register("sales", model=model, evaluation=found, reference=test)
"""
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def digits() -> pd.DataFrame:
    """The 1,797 written digits of the UCI repository, each with its name; `pen` is how much ink it took."""
    data, target = (np.asarray(part) for part in load_digits(return_X_y=True))
    rows = pd.DataFrame(data, columns=[f"pixel{number}" for number in range(64)])
    rows["pen"] = np.where(rows.sum(axis=1) > 312, "thick", "thin")
    return rows.assign(digit=[NAMES[number] for number in target])


pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    held = House(tmp_path_factory.mktemp("house"), PROJECT, "digit")
    (held.project / "pipeline.py").write_text(PIPELINE)
    digits().to_csv(held.project / "digits.csv", index=False)
    searches().to_csv(held.project / "search.csv", index=False)
    shops().to_csv(held.project / "sales.csv", index=False)
    held.start()
    yield held
    held.stop()


def serve(house: House, model: str) -> None:
    house.model = model
    if places.predictions(house.home, "production", model).exists():
        return
    house.command("run", "--no-progress", f"pipeline.py:{model}", name="owner")
    house.wait(lambda: house.endpoint()["deployments"].get("live"), f"{model} to serve")


def post(house: House, path: str, body: Any, **headers: str) -> urllib3.BaseHTTPResponse:
    url = house.note("gateway-production")["url"]
    said = {"authorization": f"Bearer {house.tokens['otto']}", "content-type": "application/json", **headers}
    return urllib3.request("POST", f"{url}/endpoints/{house.model}/{path}", body=json.dumps(body), headers=said)


def ask(house: House, rows: pd.DataFrame, request: str) -> None:
    body = {"dataframe_split": json.loads(rows.to_json(orient="split", index=False))}
    headers = {"x-request-id": request}
    house.wait(lambda: (post(house, "invocations", body, **headers)).status == 200, "an answer")


def judged(house: House) -> dict[str, list[dict[str, Any]]]:
    """What a monitor run finds, by kind."""
    found = json.loads(house.command("monitor", "run", house.model, "--json", name="owner"))
    kinds: dict[str, list[dict[str, Any]]] = {}
    for result in found:
        kinds.setdefault(result["kind"], []).append(result)
    return kinds


def results(house: House, kind: str) -> list[dict[str, Any]]:
    """What was recorded of the model, oldest window first."""
    return json.loads(house.command("monitor", "results", house.model, "--kind", kind, "--json"))[::-1]


def label_file(house: House, name: str, labels: list[tuple[Any, ...]], *columns: str) -> str:
    with (house.project / name).open("w", newline="") as stream:
        csv.writer(stream).writerows([columns or ("id", "label"), *labels])
    return name


def answered(house: House, rows: int) -> None:
    """Wait until the log, which follows the answers, has all rows."""
    folder = places.predictions(house.home, "production", house.model)
    digest = house.endpoint()["deployments"]["live"]["digest"]
    signature = log_reader.signature_of(places.models(house.home, "production") / digest / "MLmodel")
    house.wait(lambda: log_reader.read(folder, signature).num_rows >= rows, f"{rows} logged rows")


def test_classes_are_known_by_their_names(house: House) -> None:
    serve(house, "digit")
    rows = digits().iloc[719:]
    for number in range(6):
        ask(house, rows.iloc[number * 100 : number * 100 + 100], f"digits-{number}")
    answered(house, 600)
    early = judged(house)
    assert [result["verdict"] for result in early["drift"]] == ["ok", "ok"]
    assert {"prediction", "prediction.confidence"} <= {c["name"] for c in early["drift"][0]["detail"]["columns"]}
    told = early["estimate"][0]["detail"]
    assert told["metric"] == "accuracy" and told["low"] < told["baseline"] < told["high"]

    names = rows["digit"].tolist()
    ids = [f"digits-{at // 100}:{at % 100}" for at in range(600)]
    file = label_file(house, "labels.csv", [(ids[at], names[at]) for at in range(300)])
    assert '"labels": 300' in house.command("ground-truth", "production/digit", file)
    wrong = [{"id": ids[at], "label": names[at - 1] if names[at] == "three" else names[at]} for at in range(300, 600)]
    assert post(house, "ground-truth", {"labels": wrong}).json() == {"labels": 300}
    good, bad = judged(house)["model_quality"]
    assert good["verdict"] == "ok" and set(good["detail"]["intervals"]) >= {"accuracy", "macro_f1", "log_loss"}
    assert good["detail"]["estimate"]["low"] < good["detail"]["value"] < good["detail"]["estimate"]["high"]
    assert bad["verdict"] == "alert" and "accuracy fell" in bad["title"]
    (three,) = [part for part in bad["detail"]["parts"] if part["metrics"]["precision"]["high"] < 0.5]
    assert three["value"] == "three"
    bias = results(house, "bias")[0]["result"]
    assert {(item["by"], item["of"]) for item in bias["columns"]} == {("pen", name) for name in NAMES}
    assert "model_quality" in {alert["kind"] for alert in house.client().call("GET", "/api/v1/alerts")["alerts"]}


def test_what_is_no_number_is_no_label_of_a_forecast(house: House) -> None:
    serve(house, "sales")
    body = {"labels": [{"id": "a", "label": "many"}]}
    refused = post(house, "ground-truth", body)
    assert refused.status == 400 and "labels of a forecast are numbers" in refused.data.decode()
    said = house.command("ground-truth", "production/sales", label_file(house, "w.csv", [("a", "many")]), fails=True)
    assert "labels of a forecast are numbers" in said


def test_a_forecast_is_judged_by_how_far_it_looks(house: House) -> None:
    serve(house, "sales")
    rows = shops().tail(280)
    labels: list[tuple[str, float]] = []
    for week, part in enumerate(np.array_split(np.arange(280), 20)):
        ask(house, rows.iloc[part], f"week-{week}")
        far = 1.0 if week < 10 else 3.0  # what is further ahead came out differently, in the second window
        for place, sold in enumerate(rows["sold"].iloc[part]):
            labels.append((f"week-{week}:{place}", sold + (far - 1) * (place // 2) * 4))
    answered(house, 280)
    house.command("ground-truth", "production/sales", label_file(house, "sold.csv", labels))
    good, bad = judged(house)["model_quality"]
    assert good["verdict"] == "ok" and good["detail"]["metric"] == "mase" and good["detail"]["value"] < 1
    assert bad["verdict"] == "alert" and "mase rose" in bad["title"]
    parts = bad["detail"]["parts"]
    far = [part["metrics"]["mae"]["value"] for part in parts if part["by"] == "horizon"]
    assert len(far) == 7 and far[-1] > 3 * far[0]
    assert {part["value"] for part in parts if part["by"] == "series"} == {"a", "b"}


def test_a_ranking_is_judged_within_its_queries(house: House) -> None:
    serve(house, "search")
    rows = searches()
    labels: list[tuple[str, float]] = []
    for search in range(60):
        part = rows[rows["search"] == search]
        ask(house, part, f"search-{search}")
        relevance = part["relevance"] if search < 30 else 3 - part["relevance"]
        labels += [(f"search-{search}:{place}", value) for place, value in enumerate(relevance)]
    answered(house, 720)
    house.command("ground-truth", "production/search", label_file(house, "relevance.csv", labels))
    found = judged(house)
    (looked,) = found["explanation"]
    assert looked["verdict"] == "ok" and {c["name"] for c in looked["detail"]["columns"]} == {"match", "clicks"}
    good, bad = found["model_quality"]
    assert good["rows"] == bad["rows"] == 360
    assert good["verdict"] == "ok" and set(good["detail"]["intervals"]) == {"ndcg", "ndcg_at_10", "mrr", "map"}
    assert bad["verdict"] == "alert" and "ndcg_at_10 fell" in bad["title"]


def test_a_batch_is_judged_as_one_window(house: House) -> None:
    serve(house, "digit")
    answers = ["predict", "production/digit", "--workers", "1", "--input"]
    rows = digits().drop(columns="digit")
    rows.iloc[719:].to_csv(house.project / "same.csv", index=False)
    rows[digits()["digit"].isin(["one", "seven"])].to_csv(house.project / "other.csv", index=False)
    verdicts: dict[str, dict[str, dict[str, Any]]] = {}
    for name in ("same", "other"):
        house.command(*answers, f"{name}.csv", "--output", f"out-{name}", name="owner")
        said = house.command("monitor", "run", "digit", "--batch", f"out-{name}", "--json", name="owner")
        verdicts[name] = {result["kind"]: result for result in json.loads(said)}
    same, other = verdicts["same"], verdicts["other"]
    assert {"drift", "data_quality", "estimate"} <= set(same) and "alert" not in {r["verdict"] for r in same.values()}
    assert other["drift"]["verdict"] == "alert" and "prediction" in other["drift"]["detail"]["drifted"]
    said = house.command("monitor", "run", "digit", "--batch", str(house.project / "nowhere"), fails=True)
    assert "does not exist" in said


def test_the_past_is_judged_again_without_an_alert(house: House) -> None:
    serve(house, "search")
    rows = searches()
    for search in range(60, 90):
        part = rows[rows["search"] == search]
        ask(house, part.assign(match=part["match"] + 9), f"later-{search}")
    house.wait(lambda: "no column" not in house.command("monitor", "run", "search", name="owner"), "a window")
    opened = len(house.events("alert.opened", model="search"))
    span = ["--from", "2020-01-01", "--json"]
    past = json.loads(house.command("monitor", "backfill", "search", *span, name="owner"))
    assert {"drift", "service"} <= {result["kind"] for result in past}
    assert len(house.events("alert.opened", model="search")) == opened
    assert house.events("monitor.evaluated", model="search")[-1]["data"]["past"] is True
    said = house.command("monitor", "backfill", "search", "--from", "2030-01-01", name="owner", fails=True)
    assert "--from is not before --to" in said


def test_a_model_that_cannot_be_loaded_is_a_finding_beside_the_others(house: House) -> None:
    serve(house, "search")
    folder = places.models(house.home, "production") / house.endpoint()["deployments"]["live"]["digest"]
    for file in folder.rglob("*.skops"):
        file.write_bytes(b"torn")
    rows = searches()
    for search in range(30):
        ask(house, rows[rows["search"] == search], f"torn-{search}")
    found: dict[str, list[dict[str, Any]]] = {}
    house.wait(lambda: found.update(judged(house)) or "drift" in found, "a window")
    (looked,) = found["explanation"]
    assert looked["verdict"] == "warning" and "could not be loaded" in looked["title"]
    assert "deploy the version again" in looked["title"] and {"drift", "data_quality", "service"} <= set(found)


def test_two_tables_are_a_gate(house: House) -> None:
    held, other = digits(), digits()[digits()["digit"].isin(["one", "seven"])]
    for name, rows in (("held", held.iloc[::2]), ("like", held.iloc[1::2]), ("other", other)):
        rows.to_parquet(house.project / f"{name}.parquet")
    report = ["monitor", "report", "--reference", "held.parquet", "--gate", "--current"]
    house.command(*report, "like.parquet")
    house.command(*report, "other.parquet", "--save", "found.xml", fails=True)
    suite = ElementTree.parse(house.project / "found.xml").getroot()
    assert int(suite.attrib["failures"]) > 3
