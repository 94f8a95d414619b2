"""The engines that bench_pipelines measures: how each is installed, kept quiet, and started as a fresh process."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

SCRIPTS = Path(__file__).parent / "pipelines"
PLACE = Path(os.environ.get("MODELYARD_BENCH", "~/.cache/modelyard-bench")).expanduser()
PEERS = {
    "joblib": ["joblib"],
    "kedro": ["kedro"],
    "flyte": ["flytekit"],
    "dbos": ["dbos"],
    "hamilton": ["sf-hamilton[diskcache]"],
    "dagster": ["dagster"],
    "metaflow": ["metaflow"],
    "prefect": ["prefect"],
    "zenml": ["zenml[local]"],
}
LIBRARIES = ["pandas", "scikit-learn", "pyarrow"]
PLAIN, OURS, TRACKED, SERVED = "plain", "modelyard", "modelyard run", "modelyard run with a server"
NO_CACHE = (PLAIN, "kedro", "dagster", "metaflow")
"""Engines that run every step again the second time, as they come."""
TIMEOUT_S = 600.0


class Spent(NamedTuple):
    """What one fresh process took: seconds, CPU seconds with those of what it waited for, and its memory at most."""

    wall: float
    cpu: float
    peak_mb: float


def python_of(engine: str) -> str:
    """The interpreter that runs an engine. Raises OSError, CalledProcessError when it cannot be installed."""
    if engine not in PEERS:
        return sys.executable
    folder = PLACE / engine
    python = str(folder / "bin" / "python")
    if not (folder / ".ready").exists():
        uv = shutil.which("uv")
        shutil.rmtree(folder, ignore_errors=True)
        make = [uv, "venv", "-q", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
        install = [uv, "pip", "install", "-q", "--python", python] if uv else [python, "-m", "pip", "install", "-q"]
        subprocess.run([*make, str(folder)], check=True, capture_output=True, timeout=300)
        subprocess.run([*install, *PEERS[engine], *LIBRARIES], check=True, capture_output=True, timeout=1200)
        (folder / ".ready").touch()
    return python


def release_of(engine: str) -> str:
    """The engine's name with its installed release, such as `kedro 1.1.1`."""
    if engine not in PEERS:
        return engine
    package = PEERS[engine][0].partition("[")[0]
    code = f"from importlib.metadata import version; print(version({package!r}))"
    try:
        done = subprocess.run([python_of(engine), "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return engine
    return f"{engine} {done.stdout.strip()}"


def environment(engine: str, home: Path) -> dict[str, str]:
    """Everything that an engine keeps goes into `home`; nothing is reported to anybody; bytecode is kept, for all."""
    return {
        "PATH": f"{Path(python_of(engine)).parent}:/usr/bin:/bin",
        "HOME": str(home),
        "PYTHONPATH": str(SCRIPTS),
        "USERNAME": "bench",
        "OMP_NUM_THREADS": "1",
        "MODELYARD_HOME": str(home / "yard"),
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(home / "metaflow"),
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "HAMILTON_TELEMETRY_ENABLED": "false",
        "KEDRO_DISABLE_TELEMETRY": "1",
        "FLYTE_LOCAL_CACHE_ENABLED": "true",
        "ZENML_CONFIG_PATH": str(home / "zenml"),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_LOGGING_VERBOSITY": "ERROR",
        "ZENML_ENABLE_RICH_TRACEBACK": "false",
        "AUTO_OPEN_DASHBOARD": "false",
    }


def command_of(engine: str, scenario: str) -> list[str]:
    if engine in (TRACKED, SERVED):
        reference = f"run_modelyard.py:{scenario}"
        return [sys.executable, "-m", "modelyard", "run", reference, "--no-progress"]
    if engine == "metaflow":  # takes one flow a file
        script = str(SCRIPTS / f"run_metaflow_{scenario}.py")
        return [python_of(engine), script, "run", "--max-num-splits", "100"]
    if engine == "zenml":  # takes only what lies in the folder that it runs in
        return [python_of(engine), "run_zenml.py", scenario]
    return [python_of(engine), str(SCRIPTS / f"run_{engine}.py"), scenario]


def spend(command: list[str], folder: Path, variables: dict[str, str]) -> Spent:
    """What one fresh process takes. Raises RuntimeError with its last words, or when it does not end."""
    log = folder / "log.txt"
    started = time.perf_counter()
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=stream, stderr=stream)
        timer = threading.Timer(TIMEOUT_S, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode != 0:
        words = log.read_text(errors="replace").strip().splitlines() or ["no message"]
        raise RuntimeError(f"did not end in {TIMEOUT_S:g} s" if process.returncode == -9 else words[-1][:120])
    return Spent(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


@contextmanager
def place(engine: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """(a new folder to run an engine in, its environment); for SERVED with a server that runs meanwhile."""
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as name:
        folder = Path(name)
        (folder / "modelyard.toml").write_text('[project]\nname = "bench"\n')
        for file in SCRIPTS.glob("*.py"):
            shutil.copy(file, folder)
        if engine == "zenml":
            (folder / ".zen").mkdir()
        variables = environment(engine, folder)
        if engine == SERVED:
            with _server(folder, variables):
                yield folder, variables
        else:
            yield folder, variables


@contextmanager
def _server(folder: Path, variables: dict[str, str]) -> Iterator[None]:
    home = variables["MODELYARD_HOME"]
    command = [sys.executable, "-m", "modelyard", "server", "--home", home, "--project", str(folder), "--port", "0"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 180
        while not (Path(home) / "run" / "server.json").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no server: {(folder / 'server.log').read_text()[-200:]}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)
