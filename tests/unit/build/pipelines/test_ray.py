"""The same pipelines on a real Ray cluster of three nodes on this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.build.pipelines.ray import address_of
from modelyard.domain.errors import Invalid
from tests.conftest import wait_until

HELPER = Path(__file__).with_name("ray_cluster.py")
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


class Cluster:
    def __init__(self) -> None:
        command = [sys.executable, str(HELPER)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self.address = self._answer("ADDRESS")

    def _answer(self, word: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(word):
                return line.split()[1]
        raise AssertionError("the cluster ended")

    def tell(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        self._answer("DONE")

    def stop(self) -> None:
        self.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "modelyard.toml").write_text('[project]\nname = "r"\n')
    (tmp_path / "pipeline.py").write_text(SOURCE.format(here=str(tmp_path)))
    return tmp_path


def start(cluster: Cluster, folder: Path, pipeline: str = "main", *options: str) -> "subprocess.Popen[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MODELYARD", "MLFLOW"))}
    environment["RAY_ADDRESS"] = cluster.address
    command = [sys.executable, "-m", "modelyard", "run", f"pipeline.py:{pipeline}", "--engine", "ray", *options]
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
def test_a_node_dies_during_training_and_the_pipeline_ends_well(cluster: Cluster, folder: Path):
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
    cluster: Cluster, folder: Path, pipeline: str, words: str
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
def test_a_node_that_shares_no_disk_sends_its_outputs_back(cluster: Cluster, folder: Path):
    command = [sys.executable, "-c", UNSHARED, str(folder), cluster.address]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
    assert "STORED" in done.stdout, done.stderr


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


def test_engines_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert address_of("ray") is None
    assert address_of("ray://head:10001") == "ray://head:10001"
    for wrong in ("spark", "ray://", "ray:head"):
        with pytest.raises(Invalid, match="engine"):
            address_of(wrong)
