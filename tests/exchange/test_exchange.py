"""A real MLflow store comes in whole, again without effect, and goes back."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.client.api import Client
from modelyard.client.exchange.records import Point, Run
from modelyard.client.exchange.rest import MlflowRest
from modelyard.client.exchange.server import ServerSource
from tests.conftest import MINIMAL, RunningServer, start_server

pytestmark = pytest.mark.timeout(300)
FILL = Path(__file__).with_name("fill.py")
POINTS = 3 * (1500 + 3 + 1) + 1
FILES = 3 * 2 + 3


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same content in a database and in a folder, written by stock MLflow."""
    root = tmp_path_factory.mktemp("mlflow")
    uris = {"database": f"sqlite:///{root / 'mlflow.db'}", "folder": str(root / "mlruns")}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    subprocess.run([sys.executable, FILL, *uris.values()], check=True, cwd=root, env=environment, capture_output=True)
    return uris


def yard(tmp_path_factory: pytest.TempPathFactory, name: str) -> RunningServer:
    project = tmp_path_factory.mktemp(name)
    (project / "modelyard.toml").write_text(MINIMAL)
    return start_server(project)


@pytest.fixture(scope="module", params=["database", pytest.param("folder", marks=pytest.mark.slow)])
def filled(
    request: pytest.FixtureRequest, stores: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningServer, str]]:
    """(a yard into which a store was imported, the store)."""
    running = yard(tmp_path_factory, "filled")
    uri = stores[request.param]
    done = command(running, "import", "mlflow", uri, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["problems"] == []
    assert (report["runs"], report["points"], report["files"]) == (4, POINTS, FILES)
    assert (report["logged_models"], report["models"], report["versions"], report["aliases"]) == (3, 3, 3, 2)
    yield running, uri
    running.stop()


def command(running: RunningServer, *arguments: str, **extra: str) -> "subprocess.CompletedProcess[str]":
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MODELYARD", "MLFLOW"))}
    return subprocess.run(
        [sys.executable, "-m", "modelyard", *arguments],
        cwd=running.project,
        env={**environment, **extra},
        capture_output=True,
        text=True,
        timeout=100,
    )


def runs_of(url: str, token: str) -> dict[str, tuple[Run, list[Point]]]:
    rest = MlflowRest(url, token)
    source = ServerSource(rest)
    found = {
        run.name: (run, list(source.history(run)))
        for experiment in source.experiments()
        for run in source.runs(experiment)
    }
    source.close()
    return found


def test_runs_keep_what_they_are(filled: tuple[RunningServer, str]) -> None:
    running, _ = filled
    run, points = runs_of(running.url, running.token)["run-1"]
    assert run.params == {"C": "1", "long": "x" * 500}
    assert run.tags["ünïcode"] == "größe"
    assert (run.status, run.lifecycle, run.started_at, run.ended_at) == (
        "FAILED",
        "active",
        1_700_000_000_001,
        1_700_000_100_000,
    )
    loss = [point for point in points if point.key == "loss"]
    assert [(point.value, point.step) for point in loss] == [(1 / (step + 1), step) for step in range(1500)]
    assert sorted(repr(point.value) for point in points if point.key == "odd") == ["-inf", "inf", "nan"]
    assert run.datasets[0]["dataset"]["digest"] == "d1g35t"
    assert run.model_outputs[0]["model_id"].startswith("m-")
    assert runs_of(running.url, running.token)["run-2"][0].lifecycle == "deleted"


def test_versions_keep_their_numbers_and_files(filled: tuple[RunningServer, str]) -> None:
    client: Client = filled[0].client
    held = client.call("GET", "/api/v1/models/churn/versions")["versions"]
    assert sorted(version["version"] for version in held) == [1, 3]
    champion = client.call("GET", "/api/v1/models/churn/versions/champion")
    assert (champion["version"], champion["description"], champion["tags"]) == (3, "best", {"n": "3"})
    assert client.download("/api/v1/models/churn/versions/3/files/MLmodel") == b"number: 2\n"
    assert client.download("/api/v1/models/a-copy/versions/1/files/MLmodel") == b"number: 2\n"
    assert {model["name"] for model in client.call("GET", "/api/v1/models")["models"]} == {"churn", "a-copy", "empty"}
    assert client.call("GET", "/api/v1/audit/verification")["intact"]


def test_importing_again_changes_nothing(filled: tuple[RunningServer, str]) -> None:
    running, uri = filled
    before = runs_of(running.url, running.token)
    done = command(running, "import", "mlflow", uri, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert (report["runs"], report["runs_present"], report["points"], report["files"]) == (0, 4, 0, 0)
    assert (report["versions"], report["versions_present"]) == (0, 3)
    after = runs_of(running.url, running.token)
    assert repr(after) == repr(before)


def test_an_import_that_was_cut_off_goes_on(stores: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Killed at some run: what had come is kept, the rest follows, and nothing is there twice."""
    running = yard(tmp_path_factory, "cut")
    try:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MODELYARD", "MLFLOW"))}
        process = subprocess.Popen(
            [sys.executable, "-m", "modelyard", "import", "mlflow", stores["database"]],
            cwd=running.project,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        client = running.client
        while process.poll() is None:
            if client.call("GET", "/api/v1/events", query={"types": "run.created"})["events"]:
                process.kill()
        process.wait()
        done = command(running, "import", "mlflow", stores["database"], "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["problems"] == []
        found = runs_of(running.url, running.token)
        assert sum(len(points) for _, points in found.values()) == POINTS
    finally:
        running.stop()


def test_over_http_from_yard_to_yard_and_back(
    filled: tuple[RunningServer, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The MLflow protocol on both ends: `import` reads it, `export` writes it; a third yard shows what arrived."""
    first, _ = filled
    second, third = yard(tmp_path_factory, "second"), yard(tmp_path_factory, "third")
    try:
        brought = command(second, "import", "mlflow", first.url, "--json", MLFLOW_EXCHANGE_TOKEN=first.token)
        assert brought.returncode == 0, brought.stdout + brought.stderr
        assert json.loads(brought.stdout)["runs"] == 4
        taken = command(second, "export", "mlflow", third.url, "--json", MLFLOW_EXCHANGE_TOKEN=third.token)
        assert taken.returncode == 0, taken.stdout + taken.stderr
        assert json.loads(taken.stdout)["runs"] == 4
        again = json.loads(
            command(second, "export", "mlflow", third.url, "--json", MLFLOW_EXCHANGE_TOKEN=third.token).stdout
        )
        assert (again["runs"], again["runs_present"], again["files"], again["versions_present"]) == (0, 4, 0, 3)
        check_same(first, third)
    finally:
        second.stop()
        third.stop()


def check_same(before: RunningServer, after: RunningServer) -> None:
    old, new = runs_of(before.url, before.token), runs_of(after.url, after.token)
    assert old.keys() == new.keys()
    for name, (run, points) in old.items():
        other, others = new[name]
        assert (run.params, run.status, run.lifecycle, run.ended_at) == (
            other.params,
            other.status,
            other.lifecycle,
            other.ended_at,
        )
        assert repr(points) == repr(others)
        assert {key: value for key, value in run.tags.items() if not key.startswith("modelyard.")}.items() <= (
            other.tags.items()
        )
    files = "/api/v1/models/churn/versions/champion"
    shown: list[Any] = [running.client.call("GET", files) for running in (before, after)]
    assert shown[0]["digest"] == shown[1]["digest"] and shown[0]["version"] == shown[1]["version"] == 3


BAD = [
    ("nowhere.db", "is no MLflow store"),
    ("sqlite:///nowhere.db", "cannot be read"),
    ("mysql://x/y", "is no MLflow store"),
    ("http://127.0.0.1:1", "No answer"),
]


@pytest.mark.parametrize(("uri", "words"), BAD)
def test_a_bad_source_is_one_clear_error(server: RunningServer, uri: str, words: str) -> None:
    done = command(server, "import", "mlflow", uri)
    assert done.returncode == 1
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (server.project / "nowhere.db").exists()


def test_artifacts_that_cannot_be_reached_are_named_and_the_rest_comes(
    server: RunningServer, stores: dict[str, str], tmp_path: Path
) -> None:
    import shutil
    import sqlite3

    copy = tmp_path / "proxied.db"
    shutil.copy(stores["database"].removeprefix("sqlite:///"), copy)
    with sqlite3.connect(copy) as link:
        link.execute("UPDATE runs SET artifact_uri = 'mlflow-artifacts:/1/' || run_uuid || '/artifacts'")
        link.execute("UPDATE logged_models SET artifact_location = 'mlflow-artifacts:/1/models/' || model_id")
    link.close()
    done = command(server, "import", "mlflow", str(copy), "--json")
    assert done.returncode == 1
    assert "--artifacts ./mlartifacts" in "".join(json.loads(done.stdout)["problems"])
    assert "run the same command again" in done.stderr
