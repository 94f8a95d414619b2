"""Versions that name other libraries than the yard has run in environments of their own, side by side."""

import http.client
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from modelyard.deliver.deployments import explaining, libraries, places
from modelyard.domain.errors import Invalid
from modelyard.kit.clock import now_ms
from modelyard.kit.uv import READY
from tests.conftest import wait_until
from tests.ports import free_port
from tests.unit.deliver.deployments.house import House
from tests.unit.deliver.deployments.shelf import greeting, own, repacked

TOLD = '''
"""A regression that answers with the version of scikit-learn that it runs with."""

import sklearn
from sklearn.linear_model import LinearRegression


class Told(LinearRegression):
    def predict(self, rows):
        return [f"{sklearn.__version__}: {value:.1f}" for value in super().predict(rows)]
'''
TRAIN = """
import pickle, sys
sys.path.insert(0, sys.argv[1] + "/code")
from told import Told
with open(sys.argv[1] + "/model.pkl", "wb") as stream:
    pickle.dump(Told().fit([[0.0], [1.0]], [0.0, float(sys.argv[2])]), stream)
"""
OLDER = "1.7.2"
SLOW_CANARY = """
[project]
name = "tests"

[environments.production]
rollout = { strategy = "canary", steps = ["50%"], bake = "10m", min_requests = 20 }
"""


def asked(house: House, version: int) -> Any:
    """What a version predicts."""
    connection = http.client.HTTPConnection(house.note("gateway-production")["url"].partition("://")[2], timeout=60)
    headers = {"authorization": f"Bearer {house.tokens['otto']}", "content-type": "application/json"}
    body = json.dumps({"instances": [[1.0]]})
    where = f"/endpoints/{house.model}/invocations"
    connection.request("POST", where, body, headers | {"x-modelyard-version": str(version)})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    assert answer.status == 200, content
    return content["predictions"]


@pytest.mark.slow
def test_two_versions_with_other_libraries_serve_in_one_yard(shelf: Path, yard: Callable[..., House]) -> None:
    house = yard(SLOW_CANARY)
    house.ship(edit=lambda folder: greeting(folder, "greeter==1.0\nnumpy\n"))
    first = house.wait_event("rollout.completed", version=1)
    assert "environment of its own" in first["data"]["checks"][0]
    assert "greeter==1.0, here none" in first["data"]["checks"][0]
    house.ship(edit=lambda folder: greeting(folder, "greeter == 2.0  # the newer\n"))
    house.wait_event("rollout.step", version=2)
    assert asked(house, 1) == [1.0] and asked(house, 2) == [2.0]

    shutil.rmtree(shelf)  # from here on nothing can be installed
    live = house.endpoint()["deployments"]["live"]["id"]
    killed = house.worker_pid(live)
    assert killed is not None
    assert os.readlink(f"/proc/{killed}/exe") == os.readlink("/proc/self/exe")  # the same Python, another prefix
    assert f"{house.home}/environments/model-" in Path(f"/proc/{killed}/cmdline").read_text()
    os.kill(killed, signal.SIGKILL)
    assert asked(house, 1) == [1.0]


def trained(folder: Path, python: list[str], factor: float, release: str) -> None:
    """Make an MLflow folder one of a Told, trained by another interpreter to answer `factor` times x."""
    greeting(folder, f"scikit-learn=={release}\n", libraries.HERE)
    (folder / "code" / "greet.py").unlink()
    (folder / "code" / "told.py").write_text(TOLD)
    subprocess.run([*python, "-c", TRAIN, str(folder), str(factor)], check=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_releases_of_scikit_learn_serve_in_one_yard(yard: Callable[..., House]) -> None:
    """The older one is fetched from the machine's package index, as such a deployment does."""
    house = yard(SLOW_CANARY)
    house.patience_s = 300.0
    ours = importlib.metadata.version("scikit-learn")
    older = ["uv", "run", "--quiet", "--no-project", "--python", sys.executable, "--with", f"scikit-learn=={OLDER}"]
    house.ship(edit=lambda folder: trained(folder, [sys.executable], 3.0, ours))
    house.wait_event("rollout.completed", version=1)
    house.ship(edit=lambda folder: trained(folder, [*older, "python"], 5.0, OLDER))
    step = house.wait_event("rollout.step", version=2)
    assert f"scikit-learn=={OLDER}, here {ours}" in step["data"]["checks"][0]
    assert asked(house, 1) == [f"{ours}: 3.0"]
    assert asked(house, 2) == [f"{OLDER}: 5.0"]


@pytest.mark.slow
def test_an_environment_that_cannot_be_built_ends_the_rollout(shelf: Path, yard: Callable[..., House]) -> None:
    house = yard(SLOW_CANARY)
    house.ship(edit=lambda folder: greeting(folder, "greeter==9\n"))
    reason = house.wait_event("rollout.aborted", version=1)["data"]["reason"]
    assert "cannot be prepared" in reason and "greeter==9" in reason and "No solution found" in reason


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_commands_take_the_models_own_libraries(shelf: Path, tmp_path: Path) -> None:
    for name in ("pyarrow", "click", "uvicorn", "h11", "httptools"):
        repacked(shelf, name)
    greeting(tmp_path / "model", "greeter==1.0\nnumpy\n")
    (tmp_path / "in.csv").write_text("x\n1.0\n2.0\n")
    (tmp_path / "bad.csv").write_text("x\n1.0\nfar\n")
    predict = ("predict", "model", "--output", "out", "--input")
    said, _ = own(tmp_path, *predict, "in.csv").communicate(timeout=200)
    assert "environment of its own: greeter==1.0, here none" in said and '"rows": 2' in said, said
    assert pq.read_table(tmp_path / "out" / "in-00000.parquet").column("prediction").to_pylist() == [1.0, 1.0]
    shutil.rmtree(shelf)  # it is there from now on
    said, _ = own(tmp_path, *predict, "bad.csv").communicate(timeout=100)
    assert "bad.csv, row 2: column 'x': expected a number, found text 'far'" in said and "Traceback" not in said, said
    greeting(tmp_path / "model", "greeter==3.0\nnumpy\n")
    said, _ = own(tmp_path, *predict, "in.csv").communicate(timeout=100)
    assert "cannot be built" in said and "--libraries shared" in said, said


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_folder_is_served_with_its_own_libraries(shelf: Path, tmp_path: Path) -> None:
    for name in ("click", "uvicorn", "h11", "httptools"):
        repacked(shelf, name)
    greeting(tmp_path / "model", "greeter==2.0\nnumpy\n")
    port = free_port()
    process = own(tmp_path, "serve", "model", "--port", str(port))

    def answer() -> Any:
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            body = json.dumps({"instances": [[1.0]]})
            connection.request("POST", "/invocations", body, {"content-type": "application/json"})
            return json.loads(connection.getresponse().read())
        except OSError:
            return None
        finally:
            connection.close()

    try:
        assert wait_until(answer, "the folder to be served", 200) == {"predictions": [2.0]}
        (environment,) = (tmp_path / "cache" / "modelyard" / "environments").glob(f"model-*/{READY}")
        assert str(environment.parent) in Path(f"/proc/{process.pid}/cmdline").read_text()
        assert libraries.remove_unused(tmp_path / "cache" / "modelyard", [], now_ms() + 60_000) == 0, "it runs"
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert libraries.remove_unused(tmp_path / "cache" / "modelyard", [], now_ms() + 60_000) == 1


def test_only_what_differs_asks_for_an_environment(tmp_path: Path) -> None:
    here = importlib.metadata.version("numpy")
    greeting(tmp_path, f"mlflow==3.0.0\nmodelyard==9\nnumpy=={here}\nmsgspec>=0.18\nnope==1; python_version < '3'\n")
    assert libraries.differences(tmp_path, "auto")[1] == []
    assert libraries.differences(tmp_path, "own")[1] == ["as declared"]
    greeting(tmp_path, "numpy==1.26.4\n", python="3.99.1")
    assert libraries.differences(tmp_path, "auto")[1] == [
        f"Python 3.99, here {libraries.HERE}",
        f"numpy==1.26.4, here {here}",
    ]
    assert libraries.differences(tmp_path, "shared")[1] == []


def test_a_library_without_a_gpus_part_is_the_same_library(tmp_path: Path) -> None:
    here = importlib.metadata.version("xgboost-cpu")
    greeting(tmp_path, f"xgboost=={here}\n")
    assert libraries.differences(tmp_path, "auto")[1] == []
    greeting(tmp_path, "xgboost==1.0\n")
    assert libraries.differences(tmp_path, "auto")[1] == [f"xgboost==1.0, here {here}"]


@pytest.mark.parametrize("line", ["--index-url https://example.com", "./local.whl", "x @ https://example.com/x.whl"])
def test_packages_come_from_the_machines_indexes_alone(tmp_path: Path, line: str) -> None:
    greeting(tmp_path, line + "\n")
    with pytest.raises(Invalid, match="no package of an index"):
        libraries.differences(tmp_path, "auto")


def test_a_python_too_old_for_a_worker_is_said(tmp_path: Path) -> None:
    greeting(tmp_path, "", python="3.9.1")
    with pytest.raises(Invalid, match=r"3\.11 or later"):
        libraries.differences(tmp_path, "auto")


def test_environments_that_no_wanted_worker_runs_in_are_removed(tmp_path: Path) -> None:
    for name in ("used", "unused"):
        folder = tmp_path / "environments" / f"model-{name}"
        (folder / "bin").mkdir(parents=True)
        (folder / READY).touch()
    serving = places.serving(tmp_path, "production")
    serving.mkdir(parents=True)
    python = str(tmp_path / "environments" / "model-used" / "bin" / "python")
    (serving / "desired.json").write_text(json.dumps({"workers": [{"python": python}, {"python": None}]}))
    wanted = (tmp_path, ["staging", "production"])
    assert libraries.remove_unused(*wanted, now_ms() - 60_000) == 0, "built just now"
    assert libraries.remove_unused(*wanted, now_ms() + 60_000) == 1
    assert [folder.name for folder in (tmp_path / "environments").iterdir()] == ["model-used"]


def test_a_far_machine_that_cannot_prepare_a_version_says_why() -> None:
    agent = {"name": "edge-1", "seen_at": now_ms(), "report": {"workers": {}, "unready": {"d2": "No solution found"}}}
    shown = {"live": {"id": "one", "version": 1, "digest": "d1"}, "next": {"id": "two", "version": 2, "digest": "d2"}}
    told = explaining._far(agent, shown)
    assert told == ["edge-1 cannot prepare v2: No solution found", "edge-1 does not run the live v1 yet"]


def test_a_far_machine_whose_worker_does_not_start_says_why() -> None:
    seen = {"restarts": 2, "deaths": 12, "words": "m v1 cannot be served: it needs the package mlflow-skinny"}
    report = {"workers": {places.worker_id("one"): seen}}
    agent = {"name": "edge-1", "seen_at": now_ms(), "report": report}
    shown = {"live": {"id": "one", "version": 1, "digest": "d1"}}
    said = "edge-1: the live v1's worker ended 12 time(s): m v1 cannot be served: it needs the package mlflow-skinny"
    assert explaining._far(agent, shown) == [said]


def test_a_version_that_sleeps_on_a_far_machine_is_as_it_is_wanted() -> None:
    report = {"workers": {}, "stats": {"workers": {"one": {"wanted": 0, "ready": 0}}}}
    agent = {"name": "edge-1", "seen_at": now_ms(), "report": report}
    assert explaining._far(agent, {"live": {"id": "one", "version": 1, "digest": "d1"}}) == []
