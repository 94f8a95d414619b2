"""A stock `mlflow server` on a database or folder, for as long as it is needed."""

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from modelyard.domain.errors import ModelyardError, Unavailable

READY_S = 120.0


@dataclass(frozen=True)
class Reached:
    """An MLflow server: its URL and, where it was started here on a store, the command that serves it again."""

    url: str
    command: str | None = None


@contextmanager
def reached(destination: str, artifacts: Path | None) -> Generator[Reached]:
    """The MLflow server at `destination`, started for the time of the block when it is a store.

    Raises ModelyardError when MLflow's own server is needed and not installed.
    """
    if destination.startswith(("http://", "https://")):
        yield Reached(destination)
        return
    beside = Path.cwd() if "://" in destination else Path(destination).resolve().parent
    kept = (artifacts or beside / "mlartifacts").resolve()
    kept.mkdir(parents=True, exist_ok=True)
    store = destination if "://" in destination else _store_of(Path(destination))
    options = ["--backend-store-uri", store, "--artifacts-destination", str(kept)]
    with _started([_program(), "server", *options], store) as url:
        yield Reached(url, shlex.join(["mlflow", "server", *options]))


@contextmanager
def _started(command: list[str], store: str) -> Generator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_FILE_STORE": "true",  # MLflow 3 asks for it before it opens a folder
    }
    command = [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        try:
            url = f"http://127.0.0.1:{port}"
            if not _answers(url, process):
                log.seek(0)
                words = log.read().decode("utf-8", "replace").strip().splitlines()
                raise Unavailable(f"mlflow server did not start on {store}: {words[-1] if words else 'no output'}.")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _store_of(place: Path) -> str:
    return f"sqlite:///{place.resolve()}" if place.suffix in (".db", ".sqlite") else str(place.resolve())


def _program() -> str:
    """The `mlflow` of this environment or on the PATH, without mlflow-skinny's, which has no server."""
    here = Path(sys.executable).parent
    places = [Path(place) for place in os.environ.get("PATH", os.defpath).split(os.pathsep)]
    if _is_whole():
        places.append(here)
    else:
        places = [place for place in places if place != here]
    found = shutil.which("mlflow", path=os.pathsep.join(map(str, places)))
    if found is None:
        raise ModelyardError(
            "Exporting into a database or folder needs MLflow's own server, which is not installed.",
            remedy="pip install mlflow, or start one yourself and name its URL: modelyard export mlflow http://host:5000",
        )
    return found


def _is_whole() -> bool:
    return bool(list(distributions(name="mlflow")))


def _answers(url: str, process: "subprocess.Popen[bytes]") -> bool:
    end = time.monotonic() + READY_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False
