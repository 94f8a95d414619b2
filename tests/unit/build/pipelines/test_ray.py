"""The same pipelines on a real Ray cluster of three nodes on this machine."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelyard.build.ci.content import MEASURED, content_digest
from modelyard.build.pipelines.cache import Cache
from modelyard.build.pipelines.ray import address_of
from modelyard.domain.errors import Invalid
from tests.conftest import wait_until
from tests.ray_cluster import RayCluster

SOURCE = """
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd

import modelyard as yard

HERE = Path({here!r})


@yard.step
def rows(size: int) -> pd.DataFrame:
    return pd.DataFrame({{"x": np.arange(float(size))}})


@yard.step(resources=yard.Resources(cpu=2))
def fit(frame: pd.DataFrame) -> np.ndarray:
    import ray

    node = ray.get_runtime_context().get_node_id()
    with (HERE / "nodes").open("a") as stream:
        stream.write(node + "\\n")
    while not (HERE / "go").exists():
        time.sleep(0.05)
    return frame["x"].to_numpy()[:3]


@yard.step
def changed(frame: pd.DataFrame, k: int) -> float:
    frame.loc[0, "x"] = k
    return float(frame["x"].iloc[0])


@yard.step
def largest(values: list[float], fitted: np.ndarray) -> dict[str, float]:
    fitted[0] = 7.0
    return {{"largest": max(values), "fitted": float(fitted.sum())}}


@yard.step(timeout="2s")
def slow() -> int:
    time.sleep(60)
    return 1


@yard.step(resources=yard.Resources(memory="64MiB"))
def greedy() -> int:
    return len(np.ones(1 << 28))


@yard.step
def broken() -> int:
    raise ValueError("no rows today")


@yard.pipeline
def main():
    frame = rows(1000)
    largest([changed(frame, k) for k in (1, 2, 3)], fit(frame))


@yard.pipeline
def too_slow():
    slow()


@yard.pipeline
def too_large():
    greedy()


@yard.pipeline
def wrong():
    broken()
"""


WHOLE = """
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

import modelyard as yard
from modelyard import steps

HERE = Path({here!r})


def seen(file):
    try:
        import ray

        node = ray.get_runtime_context().get_node_id()
    except Exception:
        node = "here"
    with (HERE / file).open("a") as stream:
        stream.write(node + "\\n")


class Slowly(LogisticRegression):
    def fit(self, X, y):
        seen("trials")
        time.sleep(0.5)
        return super().fit(X, y)


@yard.step
def rows(size: int) -> pd.DataFrame:
    made = np.random.default_rng(0)
    frame = pd.DataFrame({{"a": made.normal(size=size), "b": made.normal(size=size)}})
    return frame.assign(label=(frame["a"] + made.normal(size=size) > 0).astype(int))


@yard.step
def part(number: int, frame: pd.DataFrame) -> float:
    column = frame["a"].to_numpy()
    address = column.__array_interface__["data"][0]
    for line in open("/proc/self/maps"):
        low, high = (int(edge, 16) for edge in line.split()[0].split("-"))
        if low <= address < high:
            (HERE / "where").write_text(line)
    seen("parts")
    time.sleep(1.0)
    return float(column[number])


@yard.step
def total(parts: list[float]) -> float:
    yard.log_metric("total", sum(parts))
    return sum(parts)


@yard.step(resources=yard.Resources(cpu=1, gpu=1, memory="2GiB"))
def on_gpu(number: float) -> float:
    (HERE / "visible").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    return number


@yard.pipeline
def main():
    frame = rows(20_000)
    total(part.map([0, 1, 2, 3], frame=frame))
    space = {{"C": (0.01, 10.0, "log")}}
    best = steps.tune(frame, target="label", estimator=Slowly, space=space, trials=6, parallel=3)
    learn, test = steps.split(frame, test=0.25, seed=0)
    model = steps.train(learn, target="label", estimator=Slowly, params=best)
    steps.evaluate(model, test, target="label")


@yard.pipeline
def gpu():
    on_gpu(1.0)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "modelyard.toml").write_text('[project]\nname = "r"\n')
    (tmp_path / "pipeline.py").write_text(SOURCE.format(here=str(tmp_path)))
    (tmp_path / "whole.py").write_text(WHOLE.format(here=str(tmp_path)))
    return tmp_path


def start(
    cluster: RayCluster, folder: Path, pipeline: str = "main", *options: str, engine: str = "ray"
) -> "subprocess.Popen[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MODELYARD", "MLFLOW"))}
    environment["RAY_ADDRESS"] = cluster.address
    reference = pipeline if ":" in pipeline else f"pipeline.py:{pipeline}"
    command = [sys.executable, "-m", "modelyard", "run", reference, "--engine", engine, *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def finish(process: "subprocess.Popen[str]", deadline_s: float = 100.0) -> tuple[int, str, str]:
    out, errors = process.communicate(timeout=deadline_s)
    return process.returncode, out, errors


def output(folder: Path) -> dict[str, Any]:
    """The newest plain output that the cache holds of the last step."""
    records = [json.loads(path.read_bytes()) for path in (folder / ".modelyard/cache/steps").glob("*.json")]
    texts = [record[0][0][3] for record in records if isinstance(record, list)]
    return next(json.loads(text) for text in texts if text and "largest" in text)


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_a_node_dies_during_training_and_the_pipeline_ends_well(cluster: RayCluster, folder: Path):
    running = start(cluster, folder, "main", "--json")
    nodes = folder / "nodes"

    def trains() -> bool:
        assert running.poll() is None, running.communicate()[1]
        return nodes.exists() and nodes.read_text().endswith("\n")

    wait_until(trains, "training to run on a node", 100)
    (first,) = nodes.read_text().split()
    cluster.tell("add")
    cluster.tell(f"kill {first}")
    wait_until(lambda: len(nodes.read_text().split()) == 2, "training to run on another node", 100)
    (folder / "go").touch()
    code, out, errors = finish(running)
    assert code == 0, errors
    assert nodes.read_text().split()[1] != first
    states = json.loads(out[out.index("{") :])["steps"]
    assert set(states.values()) == {"finished"}
    assert output(folder) == {"largest": 3.0, "fitted": 10.0}
    code, out, errors = finish(start(cluster, folder, "main", "--json"))
    assert code == 0, errors
    assert set(json.loads(out[out.index("{") :])["steps"].values()) == {"cached"}


def records(folder: Path) -> list[str]:
    """What the step cache holds: of each step the content of its outputs, its metrics and params."""
    cache = Cache(folder / ".modelyard/cache")
    keys = [path.stem for path in (folder / ".modelyard/cache/steps").glob("*.json") if path.stem != "durations"]
    held = [result for key in keys if (result := cache.find(key)) is not None]
    assert len(held) == len(keys)
    contents = [[content_digest(cache, output) for output in result.outputs] for result in held]
    return sorted(
        json.dumps([content, without_timings(result.metrics), result.params])
        for content, result in zip(contents, held, strict=True)
    )


def without_timings(metrics: dict[str, float]) -> dict[str, float]:
    measured = (*MEASURED, "system/")
    return {name: value for name, value in sorted(metrics.items()) if not name.startswith(measured)}


def tracked(folder: Path) -> list[str]:
    command = [sys.executable, "-m", "modelyard", "runs", "--json", "-n", "100"]
    runs = json.loads(subprocess.check_output(command, cwd=folder, text=True))
    return sorted(
        json.dumps([run["name"], run["status"], run["params"], without_timings(run["metrics"])]) for run in runs
    )


def nodes_of(file: Path) -> set[str]:
    return set(file.read_text().split())


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_a_whole_pipeline_gives_what_it_gives_here(cluster: RayCluster, folder: Path, tmp_path_factory: Any):
    here = tmp_path_factory.mktemp("here")
    shutil.copytree(folder, here, dirs_exist_ok=True)
    code, out, errors = finish(start(cluster, folder, "whole.py:main", "--json"))
    assert code == 0, errors
    states = json.loads(out[out.index("{") :])["steps"]
    assert set(states.values()) == {"finished"}
    assert len(nodes_of(folder / "parts")) == 2
    assert len(nodes_of(folder / "trials")) == 2
    assert "/dev/shm" in (folder / "where").read_text(), "the frame is read where the object store holds it"

    code, out, errors = finish(start(cluster, here, "whole.py:main", "--json", engine="local"))
    assert code == 0, errors
    assert set(json.loads(out[out.index("{") :])["steps"]) == set(states)
    assert records(here) == records(folder)
    assert tracked(here) == tracked(folder)

    for engine in ("local", cluster.door):
        code, out, errors = finish(start(cluster, folder, "whole.py:main", "--json", engine=engine))
        assert code == 0, errors
        assert set(json.loads(out[out.index("{") :])["steps"].values()) == {"cached"}


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_a_machine_outside_runs_it_by_the_clusters_door(cluster: RayCluster, folder: Path):
    (folder / "go").touch()
    code, out, errors = finish(start(cluster, folder, "main", "--json", engine=cluster.door))
    assert code == 0, errors
    assert set(json.loads(out[out.index("{") :])["steps"].values()) == {"finished"}
    assert output(folder) == {"largest": 3.0, "fitted": 10.0}


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_a_step_that_asks_for_a_gpu_sees_one(cluster: RayCluster, folder: Path):
    code, _, errors = finish(start(cluster, folder, "whole.py:gpu"))
    assert code == 0, errors
    assert nodes_of(folder / "visible") == {"0"}


@pytest.mark.heavy
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        ("too_slow", "Step 'slow' took longer than its timeout of 2 s"),
        ("too_large", "Step 'greedy'"),
        ("wrong", "Step 'broken' raised ValueError: no rows today at pipeline.py"),
    ],
)
def test_a_step_that_fails_is_named_and_its_trace_is_not_shown(
    cluster: RayCluster, folder: Path, pipeline: str, words: str
):
    code, _, errors = finish(start(cluster, folder, pipeline))
    assert code == 1
    assert words in errors
    assert "Traceback" not in errors


UNSHARED = """
import sys
from pathlib import Path
import pipeline
from modelyard.build.pipelines.cache import Cache
from modelyard.build.pipelines.execution import Call
from modelyard.build.pipelines.ray import MARK, RayTasks

folder = Path(sys.argv[1])
root = folder / ".modelyard" / "cache"
cache = Cache(root)
tasks = RayTasks(folder, root, sys.argv[2])
(root / MARK).unlink()
tasks.start(Call("1", "rows", "pipeline", str(folder / "pipeline.py"), "rows", {"size": 5}, str(root), str(folder)))
done = []
while not done:
    done = tasks.poll(1.0)
result = done[0].result
assert cache.path(result.outputs[0]).exists()
assert cache.load(result.outputs[0])["x"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
tasks.close()
print("STORED")
"""


@pytest.mark.heavy
def test_a_node_that_shares_no_disk_sends_its_outputs_back(cluster: RayCluster, folder: Path):
    command = [sys.executable, "-c", UNSHARED, str(folder), cluster.address]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
    assert "STORED" in done.stdout, done.stderr


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_a_cluster_that_asks_for_a_token_is_shown_one(folder: Path, monkeypatch: pytest.MonkeyPatch):
    guarded = RayCluster(token="0123456789abcdef" * 2)
    try:
        for engine in ("ray", guarded.door):
            for home, answer in ((str(folder), "asks for a token: set RAY_AUTH_TOKEN"), ("", "finished in")):
                monkeypatch.setenv("HOME", home or str(folder))
                monkeypatch.setenv("RAY_AUTH_TOKEN", "" if home else "0123456789abcdef" * 2)
                _, out, errors = finish(start(guarded, folder, "whole.py:gpu", "--fresh", "on_gpu", engine=engine))
                assert answer in out + errors, out + errors
    finally:
        guarded.stop()


TOO_LARGE = """
import sys
from pathlib import Path
from modelyard.build.pipelines.execution import Call
from modelyard.build.pipelines.ray import RayTasks

folder = Path(sys.argv[1])
root = folder / ".modelyard" / "cache"
root.mkdir(parents=True)
tasks = RayTasks(folder, root, sys.argv[2], scale_up_s=1.0)
file = str(folder / "pipeline.py")
tasks.start(Call("1", "rows", "pipeline", file, "rows", {"size": 5}, str(root), str(folder), cpu=64, gpu=2))
done = []
while not done:
    done = tasks.poll(0.5)
print("TOLD", done[0].error.message)
tasks.close()
"""


@pytest.mark.heavy
def test_a_step_that_no_node_is_large_enough_for_is_told(cluster: RayCluster, folder: Path):
    command = [sys.executable, "-c", TOO_LARGE, str(folder), cluster.address]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
    assert "TOLD Step 'rows' asks for 64 CPU, 2 GPU, and no node has that much at once" in done.stdout, done.stderr


@pytest.mark.heavy
def test_a_cluster_that_does_not_answer_is_one_clear_error(folder: Path):
    command = [sys.executable, "-m", "modelyard", "run", "pipeline.py:wrong", "--engine", "ray"]
    environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1
    assert "Ray at 127.0.0.1:1 cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_ray_the_extra_is_named(folder: Path):
    (folder / "away").mkdir()
    (folder / "away/ray.py").write_text("raise ModuleNotFoundError(\"No module named 'ray'\", name='ray')")
    command = [sys.executable, "-m", "modelyard", "run", "pipeline.py:wrong", "--engine", "ray"]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"PYTHONPATH": str(folder / "away")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Running a pipeline on Ray needs the package ray, which is not installed." in done.stderr
    assert "pip install 'modelyard[ray]'" in done.stderr


def test_engines_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert address_of("ray") is None
    assert address_of("ray://head:10001") == "ray://head:10001"
    for wrong in ("spark", "ray://", "ray:head"):
        with pytest.raises(Invalid, match="engine"):
            address_of(wrong)
