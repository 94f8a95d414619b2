"""A real MLflow store moves across and back, by the page's commands; stock MLflow reads the same at every stop."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.differential.conftest import peer_python, peer_server
from tests.exchange.conftest import CLEAN, command, snapshot, yard

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "move-from-mlflow.md"
BLOCKS = re.findall(r"^```\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="session")
def before(database: str) -> Any:
    return snapshot(database)


@pytest.mark.parametrize(
    "kind",
    [
        "postgres",
        "mlflow_server",
        "folder",
    ],
)
def test_stock_mlflow_finds_the_same_in_the_yard(
    kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    uri: str = request.getfixturevalue(kind)
    running = yard(tmp_path_factory, "into")
    try:
        done = command(running, "import", "mlflow", uri)
        assert done.returncode == 0, done.stdout + done.stderr
        before = snapshot(uri)
        if kind == "folder":
            misread = before["runs"]["child"]["metrics"]["auc"][0]
            assert misread[1] == 0  # MLflow wrote 3, and reads no step of a point with a dataset
            misread[1] = 3
        check_same(before, snapshot(running.url, running.token))
    finally:
        running.stop()


def test_the_pages_commands_move_a_store_across_and_back(database: str, before: Any, tmp_path: Path) -> None:
    across, _, up, back, serve = BLOCKS
    path = f"{Path(sys.executable).parent}:{peer_python().parent}:{CLEAN['PATH']}"
    environment = {**CLEAN, "PATH": path, "MODELYARD_PORT": "0"}

    def shell(block: str, folder: Path) -> str:
        done = subprocess.run(
            ["bash", "-ec", block], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "runs           6 new" in shell(across.replace("sqlite:////srv/mlflow/mlflow.db", database), tmp_path)
    home, log = tmp_path / "moved", tmp_path / "up.log"
    with log.open("wb") as stream:
        running = subprocess.Popen(
            shlex.split(up), cwd=home, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        wait_until(lambda: "Stop with Ctrl-C" in log.read_text(), "the yard to be up", 60)
        assert "runs           6 new" in shell(back, home)
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        running.wait(30)
    assert shlex.split(serve)[2:] == shlex.split(
        "--backend-store-uri sqlite:///mlflow.db --artifacts-destination ./mlartifacts"
    )
    with peer_server(home) as url:
        check_same(before, snapshot(url))


def check_same(before: Any, after: Any, place: str = "") -> None:
    """Fails with the place of the first difference."""
    if isinstance(before, dict) and isinstance(after, dict):
        assert before.keys() == after.keys(), place
        for key in before:
            check_same(before[key], after[key], f"{place}/{key}")
    else:
        assert before == after, place
