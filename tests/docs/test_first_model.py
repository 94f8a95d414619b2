"""The tutorial works as it is written: its commands, in their order, in a fresh folder."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "first-model.md"
BLOCKS = re.findall(r"^```\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Terminal:
    """A shell in the tutorial's folder, as a reader would have it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        held = {name: value for name, value in os.environ.items() if not name.startswith(("MODELYARD", "MLFLOW"))}
        self.environment = {
            **held,
            "PATH": f"{Path(sys.executable).parent}:{held['PATH']}",
            "MODELYARD_PORT": "0",
        }
        self.up: subprocess.Popen[bytes] | None = None
        self._state = folder / "terminal.sh"
        self._state.write_text("")

    def run(self, block: str) -> "subprocess.CompletedProcess[str]":
        """Run a block; the folder and the variables that it leaves hold for the next one."""
        keep = f"{{ echo cd \"'$PWD'\"; export -p | grep BORIS; }} > {self._state} || true"
        script = f"set -e; . {self._state}; {block}\n{keep}"
        return subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def start(self, block: str, folder: Path) -> None:
        with (self.folder / "up.log").open("wb") as log:
            self.up = subprocess.Popen(
                block.split(), cwd=folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def said(self) -> str:
        return (self.folder / "up.log").read_text()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path)
    yield opened
    if opened.up is not None:
        os.killpg(opened.up.pid, signal.SIGTERM)
        opened.up.wait(30)


def test_from_an_empty_folder_to_a_model_in_production(terminal: Terminal):
    init, up, run, approve, endpoints, predict, rollback, audit = BLOCKS
    assert terminal.run(init).returncode == 0
    terminal.start(up.strip(), terminal.folder / "flights")
    wait_until(lambda: "Stop with Ctrl-C" in terminal.said(), "the yard to be up", 60)
    trained = terminal.run(run)
    assert trained.returncode == 0, trained.stderr
    assert "gates passed" in trained.stdout and "approval asked: modelyard approve flight-delay/1" in trained.stdout
    approved = terminal.run(approve)
    assert "flight-delay v1 for production: approved" in approved.stdout, approved.stderr
    assert "production/flight-delay" in terminal.run(endpoints).stdout
    wait_until(lambda: terminal.run(predict).returncode == 0, "production to answer", 90)
    answered = terminal.run(predict)
    assert '"version": "1"' in answered.stdout and '"predictions"' in answered.stdout
    back = terminal.run(rollback)
    assert back.returncode == 1 and "no earlier deployment to go back to" in back.stderr
    checked = terminal.run(audit)
    assert checked.returncode == 0 and "intact" in checked.stdout, checked.stdout
