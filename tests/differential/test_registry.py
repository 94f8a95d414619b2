"""Logged models, registered models and versions, answered field by field as `mlflow server` answers them."""

import re
import time
import uuid
from typing import Any
from urllib.parse import quote

import urllib3

from tests.differential.conftest import Pair, Side
from tests.differential.test_tracking import experiment, run

OWN = ("source", "user_id", "workspace", "run_link", "model_id", "metrics", "params", "description", "status_message")
"""What of a version is compared apart, or is ours alone: where its files lie, who registered it."""


def logged_model(pair: Pair, label: str, **fields: Any) -> None:
    body = {"experiment_id": "{e}", "name": label, "source_run_id": "{r}", **fields}
    pair.same("POST", "2.0/mlflow/logged-models", body, save={label: "model.info.model_id"}, skip=("source_run_id",))
    for side in (pair.ours, pair.theirs):
        place = f"2.0/mlflow-artifacts/artifacts/{side.saved['e']}/models/{side.saved[label]}/artifacts/MLmodel"
        assert side.call("PUT", place, {"flavors": {}})[0] == 200


def test_experiments_may_keep_their_files_elsewhere(pair: Pair) -> None:
    """Where MLflow takes a place, we take it, and its runs and logged models lie there."""
    for label, place in {"a": "s3://bucket/p/", "b": "file:///tmp/xx", "c": "/abs/x/", "d": "s3://b/p?x=1"}.items():
        body = {"name": f"elsewhere-{uuid.uuid4().hex}", "artifact_location": place}
        for side in (pair.ours, pair.theirs):
            side.save("name", body["name"])
        pair.same("POST", "2.0/mlflow/experiments/create", body, save={f"e{label}": "experiment_id"})
        pair.same("GET", "2.0/mlflow/experiments/get", experiment_id=f"{{e{label}}}")
        run = {"experiment_id": f"{{e{label}}}", "run_name": "r"}
        pair.same("POST", "2.0/mlflow/runs/create", run, save={f"r{label}": "run.info.run_id"})
        model = {"experiment_id": f"{{e{label}}}", "name": "m"}
        pair.same("POST", "2.0/mlflow/logged-models", model, save={f"m{label}": "model.info.model_id"})
        pair.same("GET", f"2.0/mlflow/logged-models/{{m{label}}}")
        where = {"experiment_ids": [f"{{e{label}}}"]}
        pair.same(
            "POST", "2.0/mlflow/runs/search", {**where, "filter": "attributes.artifact_uri LIKE '%/artifacts%'"}
        )
    for place in ("runs:/abc", "http://h/x", "s3://b/p#x"):
        body = {"name": f"elsewhere-{uuid.uuid4().hex}", "artifact_location": place}
        pair.same("POST", "2.0/mlflow/experiments/create", body)


def test_places_that_are_refused_are_refused_in_the_same_words(pair: Pair) -> None:
    """Clients match on them."""
    experiment(pair)
    run(pair)
    body = {"name": f"words-{uuid.uuid4().hex}"}
    pair.same("POST", "2.0/mlflow/registered-models/create", body, skip=OWN)
    asked: list[tuple[str, str, dict[str, Any] | None, dict[str, str]]] = []
    for source in (
        "/tmp",
        "relative/x",
        "file:///tmp",
        "s3a://bucket/a/../../b",
        "s3a://bucket/a/..%2f..%2fb",
        "s3://bucket/x%00",
        "mlflow-artifacts:/0/models/../x",
        "mlflow-artifacts:/models/foo///bar",
        "models:/" + body["name"] + "@none",
    ):
        asked.append(("POST", "2.0/mlflow/model-versions/create", {**body, "source": source}, {}))
        asked.append(("POST", "2.0/mlflow/model-versions/create", {**body, "source": source, "run_id": "{r}"}, {}))
    for path in ("../x", "/etc", "a/../b"):
        asked.append(("GET", "2.0/mlflow/artifacts/list", None, {"run_id": "{r}", "path": path}))
        asked.append(("GET", "2.0/mlflow-artifacts/artifacts", None, {"path": path.lstrip("/") + "/.."}))
        asked.append(("POST", "ajax-api/2.0/mlflow/upload-artifact", None, {"run_uuid": "{r}", "path": path}))
    for given in ({}, {"run_uuid": "{r}"}, {"run_uuid": "{r}", "path": "a.txt"}):
        asked.append(("POST", "ajax-api/2.0/mlflow/upload-artifact", None, given))
    many = {"experiment_ids": [str(number) for number in range(21)]}
    asked.append(("POST", "ajax-api/2.0/mlflow/experiments/search-datasets", many, {}))
    for method, path, sent, query in asked:
        said: list[Any] = []
        for side in (pair.ours, pair.theirs):
            status, answer = side.call(method, path, sent, **query)
            words = re.sub(r"source: '[^']*'", "source: <it>", str(answer.get("message")))  # MLflow resolves some
            said.append((status, side.shown(words)))
        assert said[0][0] == 400 and said[0] == said[1], (path, sent, query)


def test_a_version_may_name_a_run_that_is_not_there(pair: Pair) -> None:
    name = f"unknown-run-{uuid.uuid4().hex}"
    pair.same("POST", "2.0/mlflow/registered-models/create", {"name": name}, skip=OWN)
    for source, named in (
        ("runs:/run_id/model", "run_id"),
        ("s3://b/x", "nobody"),
        ("runs:/run_id/model", "another"),
    ):
        body = {"name": name, "source": source, "run_id": named}
        pair.same("POST", "2.0/mlflow/model-versions/create", body, skip=("user_id",))
    pair.same("GET", "2.0/mlflow/model-versions/get", name=name, version="1", skip=("user_id",))
    pair.same("GET", "2.0/mlflow/model-versions/get-download-uri", name=name, version="1")


def test_what_dates_a_model_and_its_versions(pair: Pair) -> None:
    """Which calls move `last_updated_timestamp`, of the registered model and of the version."""
    name = f"dated-{uuid.uuid4().hex}"
    one, root = {"name": name, "version": "1"}, "2.0/mlflow/"
    steps: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "model-versions/create", {"name": name, "source": "s3://b/x"}),
        ("POST", "model-versions/transition-stage", {**one, "stage": "Staging"}),
        ("PATCH", "model-versions/update", {**one, "description": "d"}),
        ("POST", "model-versions/set-tag", {**one, "key": "k", "value": "v"}),
        ("DELETE", "model-versions/delete-tag", {**one, "key": "k"}),
        ("POST", "registered-models/set-tag", {"name": name, "key": "k", "value": "v"}),
        ("POST", "registered-models/alias", {**one, "alias": "a"}),
        ("DELETE", "registered-models/alias", {"name": name, "alias": "a"}),
        ("PATCH", "registered-models/update", {"name": name, "description": "d"}),
        ("DELETE", "model-versions/delete", one),
    ]
    seen: list[list[str]] = []
    for side in (pair.ours, pair.theirs):
        side.call("POST", root + "registered-models/create", {"name": name})

        def times(side: Side = side) -> tuple[int, int]:
            model = side.call("GET", root + "registered-models/get", name=name)[1]["registered_model"]
            version = side.call("GET", root + "model-versions/get", **one)[1].get("model_version", {})
            key = "last_updated_timestamp"
            return model[key], version.get(key, 0)

        moved: list[str] = []
        for method, path, body in steps:
            before = times()
            while int(time.time() * 1000) <= max(before):
                time.sleep(0.001)
            assert side.call(method, root + path, body)[0] == 200
            after = times()
            moved.append(f"{path}: model {after[0] > before[0]}, version {after[1] > before[1]}")
        seen.append(moved)
    assert seen[0] == seen[1]


def test_files_are_sent_as_mlflow_sends_them(pair: Pair) -> None:
    experiment(pair)
    run(pair)
    names = ("a.txt", "b.pkl", "c.png", "MLmodel", "e.json", "x.html", "f.yaml", "odd name.csv")
    for name in names:
        sent: list[Any] = []
        for side in (pair.ours, pair.theirs):
            path = f"2.0/mlflow-artifacts/artifacts/{side.saved['e']}/{side.saved['r']}/artifacts/{quote(name)}"
            assert side.call("PUT", path, {"any": "thing"})[0] == 200
            answer = urllib3.request(
                "GET", f"{side.url}/api/{path}", headers={"authorization": f"Bearer {side.token}"}
            )
            kept = ("content-type", "content-disposition", "x-content-type-options")
            sent.append([answer.headers.get(key) for key in kept])
        assert sent[0] == sent[1], name


def test_what_mlflows_pages_upload_is_an_artifact(pair: Pair) -> None:
    experiment(pair)
    run(pair)
    query = {"run_uuid": "{r}", "path": "notes/a.txt"}
    for side in (pair.ours, pair.theirs):
        assert side.call("POST", "ajax-api/2.0/mlflow/upload-artifact", {"any": "thing"}, **query)[0] == 200
    pair.same("GET", "2.0/mlflow/artifacts/list", run_id="{r}", path="notes")


def test_logged_models(pair: Pair) -> None:
    experiment(pair)
    run(pair)
    logged_model(pair, "m1", params=[{"key": "depth", "value": "3"}], tags=[{"key": "team", "value": "a"}])
    logged_model(pair, "m2", params=[{"key": "depth", "value": "4"}], model_type="tree")
    for name in ("a/b", "a.b", 'a"b'):
        pair.same("POST", "2.0/mlflow/logged-models", {"experiment_id": "{e}", "name": name})
    pair.same("PATCH", "2.0/mlflow/logged-models/{m1}", {"model_id": "{m1}", "status": "LOGGED_MODEL_READY"})
    for model, value, dataset in (("m1", 0.5, "train"), ("m2", 0.7, "train"), ("m2", 0.2, "test")):
        body = {
            "run_id": "{r}",
            "key": "auc",
            "value": value,
            "timestamp": 5 + len(dataset),
            "model_id": f"{{{model}}}",
        }
        pair.same("POST", "2.0/mlflow/runs/log-metric", {**body, "dataset_name": dataset, "dataset_digest": "d"})
    for model in ("m1", "m2"):
        pair.same("GET", f"2.0/mlflow/logged-models/{{{model}}}")
    tags = [{"key": "team", "value": "b"}, {"key": "stage", "value": "x"}]
    pair.same("PATCH", "2.0/mlflow/logged-models/{m1}/tags", {"model_id": "{m1}", "tags": tags})
    pair.same("DELETE", "2.0/mlflow/logged-models/{m1}/tags/stage", {})
    pair.same("DELETE", "2.0/mlflow/logged-models/{m1}/tags/stage", {})
    more = {"model_id": "{m1}", "params": [{"key": "late", "value": "1"}]}
    pair.same("POST", "2.0/mlflow/logged-models/{m1}/params", more)
    pair.same("GET", "2.0/mlflow/logged-models/{m1}")
    pair.same("GET", "2.0/mlflow/logged-models/m-" + "0" * 32)
    for wanted in (
        "",
        "name = 'm1'",
        "params.depth = '4'",
        "tags.team LIKE 'b%'",
        "metrics.auc > 0.4",
        "metrics.auc > 0.4 AND params.depth = '3'",
        "model_type = 'tree'",
        "source_run_id = '{r}'",
        "creation_timestamp > 5",
        "metrics.auc > 'x'",
        "params.depth > '3'",
        "bogus.x = '1'",
        "metrics.auc > 1 OR name = 'm1'",
    ):
        body = {"experiment_ids": ["{e}"], "filter": wanted, "order_by": [{"field_name": "name"}]}
        pair.same("POST", "2.0/mlflow/logged-models/search", body)
    on_train = {"dataset_name": "train", "dataset_digest": "d"}
    for body in (
        {"order_by": [{"field_name": "metrics.auc", "ascending": False, **on_train}]},
        {"order_by": [{"field_name": "metrics.auc", "ascending": True, "dataset_name": "test"}]},
        {"order_by": [{"field_name": "creation_timestamp", "ascending": True}]},
        {"order_by": [{"field_name": "bogus"}]},
        {"order_by": [{"field_name": "params.depth"}]},
        {"datasets": [on_train], "filter": "metrics.auc > 0.6", "order_by": [{"field_name": "name"}]},
        {"datasets": [{"dataset_digest": "d"}]},
    ):
        pair.same("POST", "2.0/mlflow/logged-models/search", {"experiment_ids": ["{e}"], **body})
    outputs = {"run_id": "{r}", "models": [{"model_id": "{m1}", "step": 2}]}
    pair.same("POST", "2.0/mlflow/runs/outputs", outputs)
    pair.same("POST", "2.0/mlflow/runs/outputs", {"run_id": "{r}"})
    pair.same("POST", "2.0/mlflow/runs/log-inputs", {"run_id": "{r}", "models": [{"model_id": "{m2}"}]})
    pair.same("GET", "2.0/mlflow/runs/get", run_id="{r}")
    pair.same("DELETE", "2.0/mlflow/logged-models/{m2}", {})
    pair.same("GET", "2.0/mlflow/logged-models/{m2}")
    pair.same("POST", "2.0/mlflow/logged-models/search", {"experiment_ids": ["{e}"]})


def test_artifacts(pair: Pair) -> None:
    experiment(pair)
    run(pair)
    for side in (pair.ours, pair.theirs):
        for name in ("a.json", "data/b.json", "data/deep/c.json"):
            place = f"2.0/mlflow-artifacts/artifacts/{side.saved['e']}/{side.saved['r']}/artifacts/{name}"
            assert side.call("PUT", place, {"n": name})[0] == 200
    pair.same("GET", "2.0/mlflow/artifacts/list", run_id="{r}")
    pair.same("GET", "2.0/mlflow/artifacts/list", run_id="{r}", path="data")
    pair.same("GET", "2.0/mlflow/artifacts/list", run_id="{r}", path="nothing")
    pair.same("GET", "2.0/mlflow/artifacts/list", run_id="{r}", path="../..")
    pair.same("GET", "2.0/mlflow/artifacts/list", run_id="f" * 32)
    pair.same("GET", "2.0/mlflow-artifacts/artifacts", path="{e}/{r}/artifacts/data")
    pair.same("GET", "2.0/mlflow-artifacts/artifacts/{e}/{r}/artifacts/data/b.json")
    pair.same("DELETE", "2.0/mlflow-artifacts/artifacts/{e}/{r}/artifacts/data")
    pair.same("GET", "2.0/mlflow/artifacts/list", run_id="{r}")


def test_models_and_versions(pair: Pair) -> None:
    experiment(pair)
    run(pair)
    logged_model(pair, "m1")
    name = f"model-{uuid.uuid4().hex[:8]}"
    tags = [{"key": "team", "value": "a"}]
    pair.same(
        "POST", "2.0/mlflow/registered-models/create", {"name": name, "tags": tags, "description": "d"}, skip=OWN
    )
    for body in ({"name": name}, {}, {"name": ""}, {"name": "a/b"}, {"name": "a:b"}, {"name": 5}):
        pair.same("POST", "2.0/mlflow/registered-models/create", body, skip=OWN)
    source = {"name": name, "source": "models:/{m1}", "run_id": "{r}", "model_id": "{m1}"}
    for _ in range(3):
        pair.same("POST", "2.0/mlflow/model-versions/create", source, skip=OWN)
    pair.same("POST", "2.0/mlflow/model-versions/create", {"name": name}, skip=OWN)
    pair.same("POST", "2.0/mlflow/model-versions/create", {**source, "name": "unknown model"}, skip=OWN)
    pair.same("POST", "2.0/mlflow/model-versions/create", {"name": name, "source": "file:///etc"}, skip=OWN)
    version = {"name": name, "version": "2"}
    pair.same("GET", "2.0/mlflow/model-versions/get", **version, skip=OWN)
    for wrong in ({"name": name}, {"version": "1"}, {"name": name, "version": "9"}, {"name": name, "version": "x"}):
        pair.same("GET", "2.0/mlflow/model-versions/get", **wrong, skip=OWN)
    pair.same("PATCH", "2.0/mlflow/model-versions/update", {**version, "description": "better"}, skip=OWN)
    for tag in (
        {"key": "q", "value": "1"},
        {"key": "q", "value": "2"},
        {"key": "k" * 300, "value": "1"},
        {"value": "1"},
    ):
        pair.same("POST", "2.0/mlflow/model-versions/set-tag", {**version, **tag})
        pair.same("POST", "2.0/mlflow/registered-models/set-tag", {"name": name, **tag})
    pair.same("DELETE", "2.0/mlflow/model-versions/delete-tag", {**version, "key": "none"})
    for alias in ("champion", "latest", "v3", "a b", "", "x" * 260):
        pair.same("POST", "2.0/mlflow/registered-models/alias", {**version, "alias": alias})
    for alias in ("champion", "none", "latest"):
        pair.same("GET", "2.0/mlflow/registered-models/alias", name=name, alias=alias, skip=OWN)
    pair.same("GET", "2.0/mlflow/registered-models/alias", name="unknown model", alias="champion")
    pair.same("DELETE", "2.0/mlflow/registered-models/alias", {"name": name, "alias": "none"})
    pair.same("DELETE", "2.0/mlflow/registered-models/alias", {"name": name, "alias": "champion"})
    for stage, archive in (("Production", False), ("staging", False), ("Production", True), ("Archived", True)):
        body = {**version, "stage": stage, "archive_existing_versions": archive}
        pair.same("POST", "2.0/mlflow/model-versions/transition-stage", body, skip=(*OWN, "aliases", "error_code"))
    pair.same("POST", "2.0/mlflow/model-versions/transition-stage", {**version, "stage": "Nowhere"})
    pair.same("GET", "2.0/mlflow/registered-models/get", name=name, skip=(*OWN, "aliases"))
    pair.same("GET", "2.0/mlflow/registered-models/get-latest-versions", name=name, skip=(*OWN, "aliases"))
    stages = {"name": name, "stages": ["None"]}
    pair.same("POST", "2.0/mlflow/registered-models/get-latest-versions", stages, skip=(*OWN, "aliases"))
    for wanted in (
        f"name = '{name}'",
        f"name = '{name}' AND tags.q = '2'",
        f"name = '{name}' AND version_number >= 2",
        f"name = '{name}' AND run_id IN ('{{r}}')",
        f"name LIKE '{name[:10]}%' AND version_number = 1",
        "run_id = '{r}'",
        "bogus = 'x'",
        "name > 'a'",
        f"name = '{name}' OR name = 'x'",
    ):
        skip = (*OWN, "aliases")
        pair.same("GET", "2.0/mlflow/model-versions/search", filter=wanted, order_by="version_number DESC", skip=skip)
    for wanted in (
        f"name = '{name}'",
        f"name ILIKE '{name.upper()}'",
        f"name = '{name}' AND tags.q = '2'",
        "tags.q > '1'",
    ):
        pair.same("GET", "2.0/mlflow/registered-models/search", filter=wanted, skip=(*OWN, "aliases"))
    pair.same("GET", "2.0/mlflow/registered-models/search", filter=f"name = '{name}'", order_by="bogus", skip=OWN)
    pair.same("GET", "2.0/mlflow/registered-models/search", max_results=1001)
    pair.same("DELETE", "2.0/mlflow/model-versions/delete", {"name": name, "version": "1"})
    pair.same("DELETE", "2.0/mlflow/model-versions/delete", {"name": name, "version": "1"})
    pair.same(
        "POST", "2.0/mlflow/registered-models/rename", {"name": name, "new_name": name + "-b"}, skip=(*OWN, "aliases")
    )
    pair.same("GET", "2.0/mlflow/registered-models/get", name=name, skip=OWN)
    pair.same("GET", "2.0/mlflow/model-versions/get", name=name + "-b", version="2", skip=(*OWN, "aliases"))
    pair.same(
        "PATCH",
        "2.0/mlflow/registered-models/update",
        {"name": name + "-b", "description": "e"},
        skip=(*OWN, "aliases"),
    )
    pair.same("DELETE", "2.0/mlflow/registered-models/delete", {"name": name + "-b"})
    pair.same("DELETE", "2.0/mlflow/registered-models/delete", {"name": name + "-b"})
