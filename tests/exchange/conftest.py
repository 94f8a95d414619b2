"""MLflow stores filled by stock MLflow, yards to move them into, and what stock MLflow reads back from either."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MINIMAL, RunningServer, start_server
from tests.contract.postgres import running_cluster
from tests.differential.conftest import peer_server

HERE = Path(__file__).parent
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith(("MODELYARD", "MLFLOW"))}


def filled_store(uri: str, folder: Path) -> str:
    """`uri`, after stock MLflow wrote into it what `fill.py` makes up."""
    subprocess.run([sys.executable, HERE / "fill.py", uri], check=True, cwd=folder, env=CLEAN, capture_output=True)
    return uri


def snapshot(uri: str, token: str = "") -> Any:
    """What stock MLflow finds at `uri`, without ids."""
    command = [sys.executable, "-W", "ignore", HERE / "snapshot.py", uri]
    environment = CLEAN | {"MLFLOW_TRACKING_TOKEN": token}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("database")
    return filled_store(f"sqlite:///{root / 'mlflow.db'}", root)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("folder")
    return filled_store(str(root / "mlruns"), root)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("postgres")
    with running_cluster() as cluster:
        url = cluster.new_database().replace("postgresql:", "postgresql+psycopg:")
        yield filled_store(url, root)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("server")
    with peer_server(root) as url:
        yield filled_store(url, root)


def yard(tmp_path_factory: pytest.TempPathFactory, name: str) -> RunningServer:
    project = tmp_path_factory.mktemp(name)
    (project / "modelyard.toml").write_text(MINIMAL)
    return start_server(project)


def command(running: RunningServer, *arguments: str, **extra: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "modelyard", *arguments],
        cwd=running.project,
        env=CLEAN | extra,
        capture_output=True,
        text=True,
        timeout=100,
    )
