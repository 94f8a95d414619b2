"""The page's promise: a fresh environment with modelyard[serve] alone serves, outlives its hub, and reports."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from modelyard.build.pipelines import model_format
from tests.conftest import wait_until
from tests.unit.deliver.deployments.house import FAST, Flow, House, ask_gateway

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "serve-on-another-machine.md").read_text()
AT_ONCE = FAST.replace("canary", "all-at-once").replace('steps = ["50%"], ', "")
TRAINING = ("mlflow", "mlflow-skinny", "optuna", "ray", "xgboost-cpu", "lightgbm", "psycopg", "matplotlib")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(580)]


class Machine:
    """A machine that only serves: its own environment, its own folder, its own credential."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / ".venv" / "bin"
        self.agent: subprocess.Popen[bytes] | None = None
        held = {name: value for name, value in os.environ.items() if not name.startswith(("MODELYARD", "MLFLOW"))}
        self.environment = {**held, "PATH": f"{self.bin}:{held['PATH']}"}
        self.environment.pop("PYTHONPATH", None)

    def install(self) -> None:
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", str(self.folder / ".venv"), "--python", sys.executable], check=True)
        options = ["-q", "--python", str(self.bin / "python"), "-c", str(ROOT / "constraints.txt")]
        subprocess.run([*uv, "pip", "install", *options, f"{ROOT}[serve]", "scikit-learn"], check=True)

    def installed(self) -> set[str]:
        command = [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "list",
            "--format",
            "json",
            "--python",
            str(self.bin / "python"),
        ]
        listed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        return {item["name"] for item in json.loads(listed)}

    def start(self, command: str) -> None:
        with (self.folder / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(
                command.split(), cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def ask(self, token: str) -> tuple[int, str]:
        note = json.loads((self.folder / ".modelyard-agent" / "run" / "gateway-production.json").read_text())
        return ask_gateway(note["url"], token, "m", 1.0)

    def answers(self, token: str, number: int) -> bool:
        try:
            return self.ask(token) == (200, str(number))
        except (OSError, ValueError):
            return False

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.agent is not None and self.agent.poll() is None:
            os.killpg(self.agent.pid, number)
            self.agent.wait(40)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    (tmp_path / "hub").mkdir()
    opened = House(tmp_path / "hub", AT_ONCE)
    yield opened.start()
    opened.stop()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    (tmp_path / "machine").mkdir()
    made = Machine(tmp_path / "machine")
    yield made
    made.stop()


def trained(folder: Path) -> None:
    rows = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
    shutil.rmtree(folder)
    model_format.save(LinearRegression().fit(rows, [0.0, 2.0, 4.0]), folder, rows)


def test_the_page(house: House, machine: Machine) -> None:
    house.command("role", "add", "edge-1", "service-endpoint", "--service", name="owner")
    token = house.command("token", "create", "--for", "edge-1", name="owner").split()[-1]
    one = house.ship(edit=trained)
    machine.install()
    assert not machine.installed() & set(TRAINING)

    (command,) = [line for line in PAGE.splitlines() if line.startswith("modelyard serve-agent")]
    url = house.note("server")["url"]
    command = command.replace("http://hub.internal:8600", url) + " --port 0"
    machine.environment["MODELYARD_TOKEN"] = token
    machine.start(command)
    caller = house.tokens["otto"]
    wait_until(lambda: machine.answers(caller, one), "v1 on the machine", 120)
    wait_until(lambda: "production on edge-1: heard of" in house.command("endpoints"), "the machine's report")

    # the hub is killed; the machine serves on, and starts again without it
    port = url.rpartition(":")[2]
    house.kill_everything()
    with Flow(lambda: machine.ask(caller), threads=1) as flow:
        wait_until(lambda: flow.total() > 100, "answers without a hub")
    assert flow.failed == {}
    machine.stop(signal.SIGKILL)
    machine.start(command)
    wait_until(lambda: machine.answers(caller, one), "v1 after a restart without a hub", 120)

    # back: everything that was answered meanwhile is in the hub's log, once
    house.start("--port", port)
    logs = house.home / "predictions" / "production" / "m"
    wait_until(lambda: list(logs.glob("*.segment")) or list(logs.glob("parquet/*/*")), "segments at the hub", 150)
    assert house.wait_event("agent.seen")
    two = house.ship(edit=trained)
    wait_until(lambda: machine.answers(caller, two), "v2 on the machine", 120)
    from modelyard.deliver.serving import log_reader

    model_file = next((house.home / "serving" / "production" / "models").glob("*/MLmodel"))

    def arrived() -> bool:
        rows = log_reader.read(logs, log_reader.signature_of(model_file))
        identities = rows.column("prediction_id").to_pylist()
        assert len(identities) == len(set(identities))
        return len(identities) >= flow.total()

    wait_until(arrived, "every answer that was given without a hub", 150)
