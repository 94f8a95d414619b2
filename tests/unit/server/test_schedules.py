"""A server that starts declared pipelines: by hand, by new data, over a range; and stops what it is told to stop."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.client.api import Client
from modelyard.domain.errors import Conflict, Forbidden, Invalid, NotFound
from tests.conftest import RunningServer, start_server, wait_until

PROJECT = """
[project]
name = "scheduled"

[pipelines.say]
pipeline = "pipeline.py:main"
params = { word = "{day}" }
limit = 2

[pipelines.data]
pipeline = "pipeline.py:main"
params = { word = "{file}" }
on_data = { path = "in/*.csv", every = "100ms", settle = "0s" }
"""
PIPELINE = """
import time
from pathlib import Path

import modelyard as yard


@yard.step(cache=False)
def say(word: str) -> str:
    if word == "bad":
        raise ValueError("no such word")
    while word == "long":
        time.sleep(0.05)
    return word


@yard.pipeline
def main(word: str):
    say(word)
"""


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = tmp_path_factory.mktemp("scheduled")
    (project / "modelyard.toml").write_text(PROJECT)
    (project / "pipeline.py").write_text(PIPELINE)
    (project / "in").mkdir()
    running = start_server(project)
    yield running
    running.stop()


def start(client: Client, **body: Any) -> dict[str, Any]:
    return client.call("POST", "/api/v1/schedules/say/start", body=body)


def state(client: Client, made: dict[str, Any]) -> dict[str, Any]:
    return client.call("GET", f"/api/v1/starts/{made['id']}")


def over(client: Client, made: dict[str, Any]) -> dict[str, Any]:
    wait_until(lambda: state(client, made)["ended_at"], "the start to end")
    return state(client, made)


def command(yard: RunningServer, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "modelyard", *words], cwd=yard.project, capture_output=True, text=True, check=False
    )


def test_a_start_runs_the_pipeline_with_its_parameters_and_its_cause(yard: RunningServer) -> None:
    done = command(yard, "trigger", "say", "-p", "word=hello", "--wait")
    assert done.returncode == 0 and "is finished" in done.stdout, done.stderr
    shown = yard.client.call("GET", "/api/v1/schedules/say")["starts"][0]
    run = yard.client.call("GET", f"/api/v1/pipeline-runs/{shown['pipeline_run_id']}")
    assert run["params"] == {"word": "hello"} and run["cause"] == shown["cause"]
    failed = command(yard, "trigger", "say", "-p", "word=bad", "--wait")
    assert failed.returncode == 1 and "no such word" in failed.stdout


def test_a_running_start_is_stopped(yard: RunningServer) -> None:
    made = start(yard.client, params={"word": "long"})
    wait_until(lambda: state(yard.client, made)["state"] == "running", "it to run")
    assert "cancelling" in command(yard, "schedules", "cancel", made["id"][:8], "-m", "too long").stdout
    ended = over(yard.client, made)
    assert ended["state"] == "cancelled" and ended["error"] == "too long"
    with pytest.raises(Conflict):
        yard.client.call("POST", f"/api/v1/starts/{made['id']}/cancel", body={})


def test_an_arrival_starts_once(yard: RunningServer) -> None:
    def made() -> list[dict[str, Any]]:
        return yard.client.call("GET", "/api/v1/schedules/data")["starts"]

    looked = "SELECT watched FROM pipeline_schedules WHERE pipeline = 'data' AND watched IS NOT NULL"
    wait_until(lambda: query(yard.home / "yard.db", looked), "the first look")
    (yard.project / "in" / "1.csv").write_text("a,b\n")
    wait_until(made, "the start")
    (yard.project / "in" / "2.csv").write_text("a,b\n")
    wait_until(lambda: len(made()) == 2, "the other start")
    assert sorted(each["params"]["word"] for each in made()) == ["in/1.csv", "in/2.csv"]


def query(database: Path, text: str) -> list[Any]:
    import sqlite3

    with sqlite3.connect(database) as connection:
        return connection.execute(text).fetchall()


def test_a_backfill_by_command(yard: RunningServer) -> None:
    words = ("backfill", "say", "--from", "2026-01-01", "--to", "2026-01-02", "--every", "1d")
    assert command(yard, *words, "--dry-run").stdout.splitlines() == ["2026-01-01 00:00 UTC", "2026-01-02 00:00 UTC"]
    done = command(yard, *words, "--parallel", "2")
    assert done.returncode == 0 and "2 finished" in done.stdout, done.stderr
    assert "2 done before" in command(yard, *words).stdout


def test_what_is_wrong_is_refused(yard: RunningServer) -> None:
    auditor = yard.as_principal("rita", "auditor")
    assert auditor.call("GET", "/api/v1/schedules")["schedules"][0]["name"] == "say"
    with pytest.raises(Forbidden):
        auditor.call("POST", "/api/v1/schedules/say/start", body={})
    with pytest.raises(NotFound, match="Declared: say, data"):
        yard.client.call("POST", "/api/v1/schedules/nothing/start", body={})
    with pytest.raises(Invalid, match="has no value"):
        yard.client.call("POST", "/api/v1/schedules/data/start", body={})
