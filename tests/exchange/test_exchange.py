"""A real MLflow store comes in whole, again without effect, and goes back."""

import json
import shutil
import signal
import sqlite3
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
from tests.conftest import RunningServer, start_server, wait_until
from tests.exchange.conftest import CLEAN, command, yard

pytestmark = pytest.mark.timeout(300)
RUNS, POINTS, FILES = 6, 3 * (1500 + 3 + 1) + 1 + 2, 3 * (2 + 1) + 5
EVENTS = {"run.created": RUNS, "logged-model.created": 4, "version.registered": 6}


@pytest.fixture(scope="module", params=["database", pytest.param("folder", marks=pytest.mark.slow)])
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningServer, str]]:
    """(a yard into which a store was imported, the store)."""
    running = yard(tmp_path_factory, "filled")
    try:
        uri = request.getfixturevalue(request.param)
        done = command(running, "import", "mlflow", uri, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads(done.stdout)
        assert report["problems"] == []
        assert (report["runs"], report["points"]) == (RUNS, POINTS) and report["files"] >= FILES
        assert (report["logged_models"], report["models"], report["versions"], report["aliases"]) == (4, 6, 6, 4)
        yield running, uri
    finally:
        running.stop()


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
    assert {model["name"] for model in client.call("GET", "/api/v1/models")["models"]} == {
        "churn",
        "a-copy",
        "empty",
        "far",
        "real",
    }
    prompts = client.call("GET", "/api/v1/models", query={"kind": "prompt"})["models"]
    assert [prompt["name"] for prompt in prompts] == ["greeting"]
    assert client.call("GET", "/api/v1/audit/verification")["intact"]


def test_importing_again_changes_nothing(filled: tuple[RunningServer, str]) -> None:
    running, uri = filled
    before = runs_of(running.url, running.token)
    done = command(running, "import", "mlflow", uri, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert (report["runs"], report["runs_present"], report["points"], report["files"]) == (0, RUNS, 0, 0)
    assert (report["versions"], report["versions_present"]) == (0, 6)
    after = runs_of(running.url, running.token)
    assert repr(after) == repr(before)


def counted(client: Client, kind: str) -> int:
    return len(client.call("GET", "/api/v1/events", query={"types": kind, "limit": 1000})["events"])


def test_an_import_that_is_killed_goes_on(database: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Killed among runs, among logged models, among versions: what had come is kept, all is there once at the end."""
    running = yard(tmp_path_factory, "cut")
    try:
        client = running.client
        for kind in EVENTS:
            kill_at(kind, client, start_import(running, database))
            assert counted(client, "version.registered") < 6
        finish(running, database)
    finally:
        running.stop()


def test_an_import_goes_on_after_the_server_was_killed(
    database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    running = yard(tmp_path_factory, "killed")
    try:
        client = running.client
        process = start_import(running, database)
        wait_until(lambda: counted(client, "run.created") > 1, "the second run")
        running.process.kill()
        running.process.wait()
        assert process.wait(100) == 1
        running = start_server(running.project)
        finish(running, database)
    finally:
        running.stop()


def kill_at(kind: str, client: Client, process: "subprocess.Popen[bytes]") -> None:
    """Kill the import as soon as there is an event of this kind."""
    try:
        wait_until(lambda: counted(client, kind) or process.poll() is not None, kind)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL


def start_import(running: RunningServer, uri: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "modelyard", "import", "mlflow", uri]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=running.project, env=CLEAN, stdout=quiet, stderr=quiet)


def finish(running: RunningServer, uri: str) -> None:
    """Run the import to its end: everything is there once, and the chain of events is whole."""
    done = command(running, "import", "mlflow", uri, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["problems"] == []
    found = runs_of(running.url, running.token)
    assert sum(len(points) for _, points in found.values()) == POINTS
    assert {kind: counted(running.client, kind) for kind in EVENTS} == EVENTS
    assert running.client.call("GET", "/api/v1/audit/verification")["intact"]


def test_over_http_from_yard_to_yard_and_back(
    filled: tuple[RunningServer, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The MLflow protocol on both ends: `import` reads it, `export` writes it; a third yard shows what arrived."""
    first, _ = filled
    second, third = yard(tmp_path_factory, "second"), yard(tmp_path_factory, "third")
    try:
        brought = command(second, "import", "mlflow", first.url, "--json", MLFLOW_EXCHANGE_TOKEN=first.token)
        assert brought.returncode == 0, brought.stdout + brought.stderr
        assert json.loads(brought.stdout)["runs"] == RUNS
        taken = command(second, "export", "mlflow", third.url, "--json", MLFLOW_EXCHANGE_TOKEN=third.token)
        assert taken.returncode == 0, taken.stdout + taken.stderr
        assert json.loads(taken.stdout)["runs"] == RUNS
        again = json.loads(
            command(second, "export", "mlflow", third.url, "--json", MLFLOW_EXCHANGE_TOKEN=third.token).stdout
        )
        assert (again["runs"], again["runs_present"], again["files"], again["versions_present"]) == (0, RUNS, 0, 6)
        check_same(first, third)
    finally:
        second.stop()
        third.stop()


PARENT = "mlflow.parentRunId"


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
        kept = {key: value for key, value in run.tags.items() if not key.startswith("modelyard.") and key != PARENT}
        assert kept.items() <= other.tags.items()
        assert (PARENT in run.tags) == (PARENT in other.tags)  # the parent has an id of its own there
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
    server: RunningServer, database: str, tmp_path: Path
) -> None:
    copy = tmp_path / "proxied.db"
    shutil.copy(database.removeprefix("sqlite:///"), copy)
    with sqlite3.connect(copy) as link:
        link.execute("UPDATE runs SET artifact_uri = 'mlflow-artifacts:/1/' || run_uuid || '/artifacts'")
        link.execute("UPDATE logged_models SET artifact_location = 'mlflow-artifacts:/1/models/' || model_id")
    link.close()
    done = command(server, "import", "mlflow", str(copy), "--json")
    assert done.returncode == 1
    assert "--artifacts ./mlartifacts" in "".join(json.loads(done.stdout)["problems"])
    assert "run the same command again" in done.stderr
