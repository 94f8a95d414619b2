"""Two servers on one PostgreSQL, and kill -9: each moment is started once, and what was running is run to its end."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.client.api import Client
from tests.conftest import RunningServer, start_server, wait_until
from tests.contract.postgres import Cluster, running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]
PROJECT = """
[project]
name = "twice"

[pipelines.tick]
pipeline = "pipeline.py:main"
params = {{ slot = "{{at:%H:%M:%S}}", log = "{log}" }}
limit = 3

[pipelines.tick.schedule]
cron = "*/3 * * * * *"

[pipelines.held]
pipeline = "pipeline.py:main"
params = {{ slot = "held", log = "{log}", wait = true }}
"""
PIPELINE = """
import os
import time
from pathlib import Path

import modelyard as yard


def say(log: str, word: str) -> None:
    with open(log, "a") as stream:
        stream.write(word + "\\n")


@yard.step(cache=False)
def work(slot: str, log: str, wait: bool) -> str:
    say(log, f"begin {slot} {os.getppid()}")
    while wait and not Path(log + ".go").exists():
        time.sleep(0.05)
    say(log, f"end {slot}")
    return slot


@yard.pipeline
def main(slot: str, log: str, wait: bool = False):
    work(slot, log, wait)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


class Pair:
    """Two servers that share a database, and the file into which their pipelines write."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.log = folder / "log.txt"
        self.log.touch()
        self.options = ["--database", cluster.new_database(), "--artifacts", str(folder / "artifacts")]
        self.servers: list[RunningServer] = []
        for name in ("first", "second"):
            project = folder / name
            project.mkdir()
            (project / "modelyard.toml").write_text(PROJECT.format(log=self.log))
            (project / "pipeline.py").write_text(PIPELINE)
            try:
                self.servers.append(start_server(project, *self.options))
            except BaseException:
                self.stop()
                raise
        self.token = self.servers[0].token

    def stop(self) -> None:
        for server in self.servers:
            server.stop()

    def client(self, index: int = 0) -> Client:
        return Client.connect(self.servers[index].url, self.token)

    def starts(self, name: str) -> list[dict[str, Any]]:
        return self.client(1).call("GET", f"/api/v1/schedules/{name}")["starts"]

    def written(self, word: str) -> list[list[str]]:
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [line[1:] for line in lines if line[0] == word]

    def all_over(self, name: str) -> bool:
        return all(start["state"] == "finished" for start in self.starts(name))


@pytest.fixture
def pair(cluster: Cluster, tmp_path: Path) -> Iterator[Pair]:
    made = Pair(cluster, tmp_path)
    yield made
    made.stop()


def test_each_moment_is_started_once(pair: Pair) -> None:
    """Both servers see every moment come due; one of them is killed and comes back meanwhile."""
    wait_until(lambda: len(pair.written("end")) >= 2, "two moments", 90)
    os.kill(pair.servers[0].process.pid, signal.SIGKILL)
    pair.servers[0].process.wait(60)
    seen = len(pair.written("end"))
    pair.servers[0] = start_server(pair.servers[0].project, *pair.options)
    wait_until(lambda: len(pair.written("end")) >= seen + 2, "two more moments", 90)
    pair.client(1).call("POST", "/api/v1/schedules/tick/pause", body={})
    wait_until(lambda: pair.all_over("tick"), "what was started to end", 120)
    started = Counter(start["slot"] for start in pair.starts("tick"))
    ended = Counter(slot for (slot,) in pair.written("end"))
    assert set(started.values()) == {1} and set(ended.values()) == {1}, (started, ended)
    assert len(started) == len(ended)
    events = pair.client(1).call("GET", "/api/v1/events", query={"types": "pipeline.triggered"})["events"]
    assert len(events) == len(started)


def test_a_killed_server_leaves_its_start_to_the_next(pair: Pair) -> None:
    """Whichever server ran it; the start is one, and its pipeline runs to its end once."""
    pair.client().call("POST", "/api/v1/schedules/tick/pause", body={})
    asked = [
        pair.client(index).call("POST", "/api/v1/schedules/held/start", body={"key": "once"}) for index in (0, 1, 0)
    ]
    assert len({start["id"] for start in asked}) == 1
    wait_until(lambda: [line for line in pair.written("begin") if line[0] == "held"], "the step to begin", 60)
    runner = int(next(line[1] for line in pair.written("begin") if line[0] == "held"))
    index = next(n for n, server in enumerate(pair.servers) if server.process.pid == runner)
    os.kill(runner, signal.SIGKILL)
    pair.servers[index].process.wait(60)
    pair.servers[index] = start_server(pair.servers[index].project, *pair.options)
    wait_until(lambda: len([b for b in pair.written("begin") if b[0] == "held"]) == 2, "its successor", 90)
    Path(f"{pair.log}.go").touch()
    wait_until(lambda: pair.all_over("held"), "the end", 60)
    assert [slot for (slot,) in pair.written("end") if slot == "held"] == ["held"]
    assert len(pair.starts("held")) == 1
