"""Statistics of Open Inference v2: their shape, and the sum over a version's workers."""

import json
from pathlib import Path
from typing import Any

from modelyard.deliver.serving.statistics import Tally, merged
from tests.unit.deliver.serving.conftest import Plane, odd_model

DURATIONS = {
    "success",
    "fail",
    "queue",
    "compute_input",
    "compute_infer",
    "compute_output",
    "cache_hit",
    "cache_miss",
}


def tally(rows: int, calls: int, last: int) -> Tally:
    made = Tally(rows=rows * calls, last=last)
    for _ in range(calls):
        made.called(rows, 0.001, 0.002)
        made.success.note(0.25)
        made.predict.note(0.002)
    return made


def test_the_shape_of_the_extension():
    shown = tally(3, 2, 7).shown("m", "1")
    names = {"name", "version", "last_inference", "inference_count", "execution_count", "inference_stats"}
    assert shown.keys() == names | {"batch_stats"} and shown["inference_stats"].keys() == DURATIONS
    assert (shown["inference_count"], shown["execution_count"], shown["last_inference"]) == (6, 2, 7)
    assert shown["inference_stats"]["success"] == {"count": 2, "ns": 500_000_000}
    (batch,) = shown["batch_stats"]
    assert batch["batch_size"] == 3 and batch["compute_infer"] == {"count": 2, "ns": 4_000_000}
    assert batch.keys() == {"batch_size", "compute_input", "compute_infer", "compute_output"}


def test_workers_counts_are_added():
    both = merged([tally(3, 2, 7).shown("m", "1"), tally(3, 1, 5).shown("m", "1"), tally(1, 4, 6).shown("m", "1")])
    assert (both["inference_count"], both["execution_count"], both["last_inference"]) == (13, 7, 7)
    assert both["inference_stats"]["success"]["count"] == 7
    assert [(b["batch_size"], b["compute_infer"]["count"]) for b in both["batch_stats"]] == [(1, 4), (3, 3)]
    alone = tally(3, 2, 7).shown("m", "1")
    assert merged([alone]) == alone


def test_a_version_tells_what_all_its_workers_counted(plane: Plane, tmp_path: Path, gate: Path):
    for name in ("a", "b"):
        plane.launch_worker(name, plane.spec(name, odd_model(tmp_path / name, gate)))
    plane.launch_worker("v2", plane.spec("v2", odd_model(tmp_path / "v2", gate), 2))
    for name in ("a", "b", "v2"):
        plane.ready(name)
    first = plane.target("v1", sockets=[plane.socket("a"), plane.socket("b"), plane.socket("asleep")])
    plane.route(first, plane.target("v2", 0.0, 2))
    plane.gateway()
    for _ in range(6):
        assert plane.x(1.0, 2.0)[0] == 200
    assert plane.x(1.0, x_modelyard_version="2")[0] == 200
    assert plane.x(-1.0)[0] == 500

    def told(path: str) -> list[Any]:
        status, _, answer = plane.call("GET", path)
        assert status == 200, answer
        return json.loads(answer)["model_stats"]

    def counted(path: str) -> list[Any]:
        return [(item["name"], item["version"], item["inference_count"]) for item in told(path)]

    for path in ("/v2/models/stats", "/v2/models/m/stats", "/endpoints/m/v2/models/m/stats"):
        assert counted(path) == [("m", "1", 12), ("m", "2", 1)]
    assert counted("/v2/models/m/versions/1/stats") == [("m", "1", 12)]
    stats = told("/v2/models/m/versions/1/stats")[0]["inference_stats"]
    assert (stats["success"]["count"], stats["fail"]["count"]) == (6, 1)
    assert plane.call("GET", "/v2/models/m/versions/9/stats")[0] == 404
    assert plane.call("GET", "/endpoints/m/v2/models/other/stats")[0] == 404
    assert plane.call("POST", "/v2/models/stats")[0] == 405

    plane.processes["a"].kill()  # what it counted is gone with it
    plane.processes["a"].wait(10)
    (left,) = told("/v2/models/m/versions/1/stats")
    assert 0 < left["inference_count"] < 12


def test_what_stock_clients_may_ask_besides_is_404_in_words(plane: Plane, odd: Path):
    plane.route(plane.target("v1"))
    plane.gateway()
    for path in ("/v2/models/m/config", "/v2/trace/setting", "/v2/logging", "/v2/systemsharedmemory/status"):
        status, _, answer = plane.call("GET", path)
        assert status == 404 and path in json.loads(answer)["error"]
