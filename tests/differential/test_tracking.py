"""Tracking calls answered field by field as `mlflow server` answers them."""

import uuid
from typing import Any

from tests.differential.conftest import Pair

LONG = "x" * 300


def experiment(pair: Pair, **fields: Any) -> str:
    """The name of a new experiment on both sides, saved as `e`."""
    name = f"e-{uuid.uuid4().hex[:8]}"
    pair.same("POST", "2.0/mlflow/experiments/create", {"name": name, **fields}, save={"e": "experiment_id"})
    return name


def run(pair: Pair, label: str = "r", **fields: Any) -> None:
    body = {"experiment_id": "{e}", "run_name": label, "start_time": 1000, "user_id": "ana", **fields}
    pair.same("POST", "2.0/mlflow/runs/create", body, save={label: "run.info.run_id"})


def test_experiments(pair: Pair) -> None:
    name = experiment(pair, tags=[{"key": "team", "value": "ml"}])
    pair.same("GET", "2.0/mlflow/experiments/get", experiment_id="{e}")
    pair.same("GET", "2.0/mlflow/experiments/get-by-name", experiment_name=name)
    pair.same("POST", "2.0/mlflow/experiments/create", {"name": name})
    pair.same("POST", "2.0/mlflow/experiments/create", {"name": ""})
    pair.same("POST", "2.0/mlflow/experiments/create", {})
    pair.same("POST", "2.0/mlflow/experiments/create", {"name": 12})
    pair.same("POST", "2.0/mlflow/experiments/create", {"name": "n" * 501})
    pair.same("GET", "2.0/mlflow/experiments/get", experiment_id="123456789")
    pair.same("GET", "2.0/mlflow/experiments/get", experiment_id="abc")
    pair.same("GET", "2.0/mlflow/experiments/get")
    pair.same("GET", "2.0/mlflow/experiments/get-by-name", experiment_name="no such")
    pair.same("GET", "2.0/mlflow/experiments/get", experiment_id="0")
    tag = {"experiment_id": "{e}", "key": "a", "value": "1"}
    pair.same("POST", "2.0/mlflow/experiments/set-experiment-tag", tag)
    pair.same("POST", "2.0/mlflow/experiments/set-experiment-tag", {**tag, "key": LONG})
    pair.same("POST", "2.0/mlflow/experiments/set-experiment-tag", {"experiment_id": "{e}", "value": "1"})
    pair.same("POST", "2.0/mlflow/experiments/delete-experiment-tag", {"experiment_id": "{e}", "key": "team"})
    pair.same("POST", "2.0/mlflow/experiments/delete-experiment-tag", {"experiment_id": "{e}", "key": "team"})
    pair.same("POST", "2.0/mlflow/experiments/update", {"experiment_id": "{e}", "new_name": name + "-b"})
    pair.same("POST", "2.0/mlflow/experiments/update", {"experiment_id": "{e}"})
    run(pair)
    pair.same("POST", "2.0/mlflow/experiments/delete", {"experiment_id": "{e}"})
    pair.same("POST", "2.0/mlflow/experiments/delete", {"experiment_id": "{e}"})
    pair.same("GET", "2.0/mlflow/experiments/get", experiment_id="{e}")
    pair.same("GET", "2.0/mlflow/runs/get", run_id="{r}")
    pair.same("POST", "2.0/mlflow/experiments/set-experiment-tag", tag)
    pair.same("POST", "2.0/mlflow/experiments/update", {"experiment_id": "{e}", "new_name": "z"})
    pair.same("POST", "2.0/mlflow/runs/create", {"experiment_id": "{e}"})
    pair.same("POST", "2.0/mlflow/experiments/create", {"name": name + "-b"})
    pair.same("POST", "2.0/mlflow/experiments/restore", {"experiment_id": "{e}"})
    pair.same("POST", "2.0/mlflow/experiments/restore", {"experiment_id": "{e}"})
    pair.same("GET", "2.0/mlflow/runs/get", run_id="{r}")


def test_search_experiments(pair: Pair) -> None:
    mark = uuid.uuid4().hex[:8]
    for number in range(4):
        tags = [{"key": "mark", "value": mark}, {"key": "n", "value": str(number)}]
        body = {"name": f"{mark}-{number}", "tags": tags}
        pair.same("POST", "2.0/mlflow/experiments/create", body, save={f"s{number}": "experiment_id"})
    pair.same("POST", "2.0/mlflow/experiments/delete", {"experiment_id": "{s3}"})
    base = f"tags.mark = '{mark}'"
    for wanted in (
        base,
        f"name LIKE '{mark}-%'",
        f"name ILIKE '{mark.upper()}%'",
        f"{base} AND tags.n != '1'",
        f"{base} AND attribute.name = '{mark}-2'",
        f"{base} and tag.`n` LIKE '_'",
        f"{base} AND tags.other IS NULL",
        f"{base} AND tags.n IS NOT NULL",
        f"{base} AND creation_time > 5",
        f"{base} AND creation_time > 'x'",
        f"{base} OR tags.n = '1'",
        "metrics.a > 1",
        "name > 'a'",
        "name",
        "bogus = 'a'",
    ):
        pair.same(
            "POST", "2.0/mlflow/experiments/search", {"filter": wanted, "max_results": 10, "order_by": ["name"]}
        )
    for view in ("ACTIVE_ONLY", "DELETED_ONLY", "ALL"):
        pair.same("POST", "2.0/mlflow/experiments/search", {"filter": base, "max_results": 10, "view_type": view})
    for order in (["name DESC"], ["creation_time ASC"], ["experiment_id DESC"], ["tags.n"], ["name SIDEWAYS"]):
        pair.same("POST", "2.0/mlflow/experiments/search", {"filter": base, "max_results": 10, "order_by": order})
    page = {"filter": base, "max_results": 2, "order_by": ["name ASC"]}
    tokens = []
    for side in (pair.ours, pair.theirs):
        _, answer = side.call("POST", "2.0/mlflow/experiments/search", page)
        tokens.append(answer["next_page_token"])
        _, last = side.call("POST", "2.0/mlflow/experiments/search", {**page, "page_token": tokens[-1]})
        assert [item["name"] for item in last["experiments"]] == [f"{mark}-2"]
        assert not last.get("next_page_token")
    pair.same("POST", "2.0/mlflow/experiments/search", {"max_results": 0})
    pair.same("POST", "2.0/mlflow/experiments/search", {"max_results": 10, "page_token": "???"})


def test_runs(pair: Pair) -> None:
    experiment(pair)
    run(pair, tags=[{"key": "a", "value": "1"}])
    pair.same("GET", "2.0/mlflow/runs/get", run_id="{r}")
    pair.same("GET", "2.0/mlflow/runs/get", run_id="f" * 32)
    pair.same("GET", "2.0/mlflow/runs/get")
    pair.same("POST", "2.0/mlflow/runs/create", {"experiment_id": 5})
    pair.same("POST", "2.0/mlflow/runs/create", {"experiment_id": "99999999"})
    pair.same("POST", "2.0/mlflow/runs/create", {"experiment_id": "{e}", "start_time": "soon"})
    clash = {"experiment_id": "{e}", "run_name": "x", "tags": [{"key": "mlflow.runName", "value": "y"}]}
    pair.same("POST", "2.0/mlflow/runs/create", clash)
    pair.same("POST", "2.0/mlflow/runs/update", {"run_id": "{r}", "status": "FINISHED", "end_time": 2000})
    pair.same("POST", "2.0/mlflow/runs/update", {"run_id": "{r}", "run_name": "other"})
    pair.same("POST", "2.0/mlflow/runs/update", {"status": "FINISHED"})
    pair.same("POST", "2.0/mlflow/runs/set-tag", {"run_id": "{r}", "key": "mlflow.runName", "value": "third"})
    pair.same("GET", "2.0/mlflow/runs/get", run_id="{r}")
    pair.same("POST", "2.0/mlflow/runs/delete", {"run_id": "{r}"})
    pair.same("GET", "2.0/mlflow/runs/get", run_id="{r}")
    for path, body in (
        ("log-metric", {"key": "m", "value": 1.0, "timestamp": 1}),
        ("log-parameter", {"key": "p", "value": "1"}),
        ("set-tag", {"key": "t", "value": "1"}),
        ("delete-tag", {"key": "a"}),
        ("log-batch", {"metrics": [{"key": "m", "value": 1.0, "timestamp": 1}]}),
        ("update", {"status": "RUNNING"}),
    ):
        pair.same("POST", f"2.0/mlflow/runs/{path}", {"run_id": "{r}", **body})
    pair.same("POST", "2.0/mlflow/runs/delete", {"run_id": "{r}"})
    pair.same("POST", "2.0/mlflow/runs/restore", {"run_id": "{r}"})
    pair.same("POST", "2.0/mlflow/runs/delete-tag", {"run_id": "{r}", "key": "a"})
    pair.same("POST", "2.0/mlflow/runs/delete-tag", {"run_id": "{r}", "key": "a"})
    pair.same("GET", "2.0/mlflow/runs/get", run_id="{r}")


def test_values_and_limits(pair: Pair) -> None:
    experiment(pair)
    run(pair)
    metric: dict[str, Any] = {"run_id": "{r}", "key": "m", "value": 1.5, "timestamp": 10, "step": 1}
    for change in (
        {},
        {"value": 2},
        {"value": "NaN", "step": 2},
        {"value": "Infinity", "key": "inf"},
        {"value": None},
        {"value": "high"},
        {"timestamp": None},
        {"timestamp": -5},
        {"timestamp": "12"},
        {"step": "3"},
        {"step": "x"},
        {"step": -4, "value": 9.0},
        {"key": ""},
        {"key": "a//b"},
        {"key": "../b"},
        {"key": "val/loss"},
        {"key": "a:b c-d.e"},
        {"key": "bad\nkey"},
        {"key": "semi;colon"},
        {"key": LONG},
        {"run_id": ""},
        {"run_id": "0" * 32},
    ):
        pair.same("POST", "2.0/mlflow/runs/log-metric", {**metric, **change})
    param = {"run_id": "{r}", "key": "p", "value": "1"}
    for change in ({}, {}, {"value": "2"}, {"key": "empty", "value": ""}, {"key": LONG}, {"key": "/a"}, {"value": 1}):
        pair.same("POST", "2.0/mlflow/runs/log-parameter", {**param, **change})
    pair.same("POST", "2.0/mlflow/runs/log-parameter", {**param, "key": "long", "value": "v" * 6001})
    pair.same("POST", "2.0/mlflow/runs/set-tag", {**param, "key": "long", "value": "v" * 8001})
    pair.same("POST", "2.0/mlflow/runs/set-tag", {**param, "key": LONG})
    pair.same("POST", "2.0/mlflow/runs/set-tag", {"run_id": "{r}", "key": "novalue"})
    pair.same("GET", "2.0/mlflow/runs/get", run_id="{r}", skip=("value",))
    pair.same("GET", "2.0/mlflow/metrics/get-history", run_id="{r}", metric_key="m")
    pair.same("GET", "2.0/mlflow/metrics/get-history", run_id="{r}", metric_key="none")
    pair.same("GET", "2.0/mlflow/metrics/get-history", run_id="{r}")
    pair.same("GET", "2.0/mlflow/metrics/get-history", run_id="{r}", metric_key="m", max_results=0)


def test_batches(pair: Pair) -> None:
    experiment(pair)
    run(pair)

    def batch(**body: Any) -> None:
        pair.same("POST", "2.0/mlflow/runs/log-batch", {"run_id": "{r}", **body})

    points = [{"key": f"k{n % 5}", "value": n / 7, "timestamp": n, "step": n % 11} for n in range(60)]
    batch(metrics=points, params=[{"key": "p", "value": "1"}], tags=[{"key": "t", "value": "a"}])
    batch(metrics=points)
    batch(params=[{"key": "p", "value": "1"}, {"key": "q", "value": "2"}])
    batch(params=[{"key": "p", "value": "other"}])
    batch(params=[{"key": "z", "value": "1"}, {"key": "z", "value": "1"}])
    batch(params=[{"key": f"p{n}", "value": "1"} for n in range(101)])
    batch(tags=[{"key": f"p{n}", "value": "1"} for n in range(101)])
    batch(metrics=[{"key": "m", "value": n, "timestamp": 1, "step": n} for n in range(1001)])
    batch(metrics=[{"key": "m", "value": n, "timestamp": 1, "step": n} for n in range(1000)], params=[{"key": "x"}])
    batch(metrics=[{"key": "m", "timestamp": 1}])
    batch(metrics=[{"value": 1, "timestamp": 1}])
    batch(metrics=[{"key": "m", "value": 1}])
    batch(metrics=[{"key": "../m", "value": 1, "timestamp": 1}])
    batch(tags=[{"value": "a"}], metrics=[])
    batch(tags=[{"key": "t", "value": "b"}, {"key": "t", "value": "c"}])
    batch()
    batch(metrics="m")
    pair.same("POST", "2.0/mlflow/runs/log-batch", {})
    pair.same("GET", "2.0/mlflow/runs/get", run_id="{r}")
    for key in ("k0", "k3"):
        pair.same("GET", "2.0/mlflow/metrics/get-history", run_id="{r}", metric_key=key)
        sampled = {"run_ids": "{r}", "metric_key": key}
        for more in ({}, {"max_results": 3}, {"max_results": 1}, {"start_step": 2, "end_step": 6}, {"start_step": 2}):
            pair.same("GET", "2.0/mlflow/metrics/get-history-bulk-interval", **sampled, **more)
    pair.same("GET", "ajax-api/2.0/mlflow/metrics/get-history-bulk", run_id="{r}", metric_key="k1")
    pair.same("GET", "ajax-api/2.0/mlflow/metrics/get-history-bulk", run_id="{r}", metric_key="k1", max_results=2)


def test_search_runs(pair: Pair) -> None:
    experiment(pair)
    for number in range(8):
        run(pair, f"r{number}", start_time=1000 + number, tags=[{"key": "color.x", "value": "ab"[number % 2]}])
        values: list[Any] = [0.1 * number, "NaN", 5] if number % 3 == 0 else [0.1 * number]
        for index, value in enumerate(values):
            key = ("auc", "odd", "only")[index]
            body = {"run_id": f"{{r{number}}}", "key": key, "value": value, "timestamp": 5}
            pair.same("POST", "2.0/mlflow/runs/log-metric", body)
        if number != 5:
            body = {"run_id": f"{{r{number}}}", "key": "depth", "value": str(number % 3)}
            pair.same("POST", "2.0/mlflow/runs/log-parameter", body)
    data = {"dataset": {"name": "iris", "digest": "d1", "source_type": "local", "source": "{}"}}
    used = {**data, "tags": [{"key": "mlflow.data.context", "value": "train"}]}
    pair.same("POST", "2.0/mlflow/runs/log-inputs", {"run_id": "{r2}", "datasets": [used]})
    pair.same("POST", "2.0/mlflow/runs/log-inputs", {"run_id": "{r2}", "datasets": [used]})
    for field, length in (("name", 501), ("digest", 37), ("source", 65_536), ("schema", 1_048_576)):
        long = {"dataset": {**data["dataset"], field: "x" * length}}
        pair.same("POST", "2.0/mlflow/runs/log-inputs", {"run_id": "{r2}", "datasets": [long]})
    for tag in ({"key": "k" * 256, "value": "v"}, {"key": "k", "value": "v" * 501}):
        pair.same("POST", "2.0/mlflow/runs/log-inputs", {"run_id": "{r2}", "datasets": [{**data, "tags": [tag]}]})
    pair.same("GET", "2.0/mlflow/runs/get", run_id="{r2}")
    pair.same("POST", "2.0/mlflow/runs/update", {"run_id": "{r1}", "status": "FAILED", "end_time": 9})
    pair.same("POST", "2.0/mlflow/runs/delete", {"run_id": "{r7}"})
    for wanted in FILTERS:
        body = {"experiment_ids": ["{e}"], "filter": wanted, "order_by": ["attribute.run_name"], "max_results": 50}
        pair.same("POST", "2.0/mlflow/runs/search", body)
    for order in ORDERS:
        body = {"experiment_ids": ["{e}"], "order_by": order, "max_results": 50}
        pair.same("POST", "2.0/mlflow/runs/search", body)
    for view in ("ACTIVE_ONLY", "DELETED_ONLY", "ALL"):
        body = {"experiment_ids": ["{e}"], "run_view_type": view, "order_by": ["attribute.run_name"]}
        pair.same("POST", "2.0/mlflow/runs/search", body)
    pair.same("POST", "2.0/mlflow/runs/search", {"experiment_ids": []})
    pair.same("POST", "2.0/mlflow/runs/search", {"experiment_ids": ["{e}"], "max_results": 50_001})
    pair.same("POST", "2.0/mlflow/runs/search", {"experiment_ids": ["{e}"], "page_token": "bad"})


FILTERS = (
    "",
    "metrics.auc > 0.2",
    "metrics.auc >= 0.2 and metrics.auc < 0.6",
    "metric.auc = 0.5",
    "metrics.`auc` != 0.5",
    "metrics.odd != 3",
    "metrics.odd = 0",
    "metrics.only > -1e3",
    "metrics.auc > 'x'",
    "metrics.auc LIKE 'x'",
    "params.depth = '1'",
    'params."depth" = "1"',
    "param.depth != '1'",
    "params.depth LIKE '%'",
    "params.depth IS NULL",
    "params.depth IS NOT NULL",
    "params.depth > '1'",
    "params.depth = 1",
    "parameters.depth ILIKE '1'",
    "tags.`color.x` = 'a'",
    "tags.\"color.x\" = 'b'",
    "tags.color.x = 'a'",
    "tag.color.x ILIKE 'A'",
    "tag.color.x LIKE 'A'",
    "tags.missing = 'a'",
    "tags.missing IS NULL",
    "attributes.status = 'FAILED'",
    "attribute.status != 'FAILED'",
    "attr.run_name LIKE 'r%'",
    "run_name = 'r3'",
    "attributes.run_name ILIKE 'R3'",
    "run.start_time > 1001",
    "attributes.start_time = 1001",
    "attributes.end_time = 9",
    "attributes.end_time IS NULL",
    "created <= 1001",
    "attributes.user_id = 'ana'",
    "run_id IN ('{r1}', '{r2}')",
    "attributes.run_id NOT IN ('{r1}', '{r2}')",
    "run_id = '{r1}'",
    "run_id IN ()",
    "attributes.bogus = 'a'",
    "bogus.key = 'a'",
    "dataset.name = 'iris'",
    "datasets.digest = 'd1'",
    "dataset.context = 'train'",
    "dataset.name LIKE 'ir%'",
    "dataset.name IN ('iris', 'x')",
    "dataset.size = 'x'",
    "metrics.auc > 0.1 OR metrics.auc < 0",
    "metrics.auc",
    "metrics.auc >",
    "metrics.auc > 0.1 AND",
    "AND metrics.auc > 0.1",
    "metrics.auc > 0.1; DROP TABLE runs",
    "params.depth = 'it''s'",
)
ORDERS = (
    ["metrics.auc"],
    ["metrics.auc DESC"],
    ["metrics.odd ASC", "metrics.auc DESC"],
    ["metrics.only DESC", "attribute.run_name"],
    ["metrics.only ASC", "attribute.run_name DESC"],
    ["params.depth", "metrics.auc"],
    ["params.depth DESC", "metrics.auc"],
    ["tags.`color.x` DESC", "attribute.run_name"],
    ["attributes.end_time", "attribute.run_name"],
    ["attributes.end_time DESC", "attribute.run_name"],
    ["start_time ASC", "run_name"],
    ["status", "run_name"],
    ["metrics.auc UP"],
    ["bogus"],
    ["datasets.name"],
    ["metrics.auc", "metrics.auc DESC"],
    ["start_time", "attributes.start_time DESC"],
    [],
    [""],
    ["params.`depth` desc", 'metrics."auc"'],
    ["metrics.auc DESC, metrics.odd"],
)
