"""Real parts for every test: a server process, its owner's client, a project folder."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelyard.client.api import Client

DEADLINE_S = 60.0
"""A guard, not a measure: what waits for it is there in a moment on a machine that has nothing else to do."""
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # every server would compile all its modules anew: a second of CPU


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> object:
    """The condition's first true value; fails the test, naming `what`, when the deadline passes."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {deadline_s:.0f} s for {what}")


@dataclass
class RunningServer:
    """A `modelyard server` process on a free port, with its own yard."""

    project: Path
    process: "subprocess.Popen[bytes]"

    @property
    def home(self) -> Path:
        return self.project / ".modelyard"

    @property
    def url(self) -> str:
        return json.loads((self.home / "run" / "server.json").read_text())["url"]

    @property
    def token(self) -> str:
        return json.loads((self.home / "credentials.json").read_text())["local"]["token"]

    @property
    def client(self) -> Client:
        return Client.connect(self.url, self.token)

    def as_principal(self, name: str, *roles: str) -> Client:
        """A client of a new person with these roles."""
        self.client.call("POST", "/api/v1/principals", body={"name": name, "roles": list(roles)})
        return Client.connect(self.url, self.client.call("POST", "/api/v1/tokens", body={"principal": name})["token"])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def start_server(project: Path, *options: str, **extra: str) -> RunningServer:
    """A server that answers; the caller stops it. extra: variables of its environment."""
    note = project / ".modelyard" / "run" / "server.json"
    note.unlink(missing_ok=True)
    command = [sys.executable, "-m", "modelyard", "server", "--home", str(project / ".modelyard")]
    command += ["--project", str(project), "--port", "0", *options]
    log = (project / "server.log").open("ab")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MODELYARD", "MLFLOW"))} | extra
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    log.close()
    server = RunningServer(project, process)

    def answers() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the server ended: {(project / 'server.log').read_text()}")
        return note.exists()

    wait_until(answers, "the server to start")
    return server


MINIMAL = '[project]\nname = "tests"\n'


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for all tests that need only a server; each uses names of its own."""
    project = tmp_path_factory.mktemp("project")
    (project / "modelyard.toml").write_text(MINIMAL)
    running = start_server(project)
    yield running
    running.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
