"""Pipelines beside plain Python and other engines, each run a whole fresh process; prints a Markdown table.

    make bench-pipelines                                    # every engine
    python benchmarks/bench_pipelines.py modelyard kedro --lines chain,fan --tries 1

Each peer gets a virtual environment of its own under ~/.cache/modelyard-bench ($MODELYARD_BENCH); one that cannot be
installed, or does not end, is reported as such. CPU seconds count the process and those that it waited for.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent / "pipelines"
PLACE = Path(os.environ.get("MODELYARD_BENCH", "~/.cache/modelyard-bench")).expanduser()
PEERS = {
    "metaflow": "metaflow",
    "prefect": "prefect",
    "dagster": "dagster",
    "kedro": "kedro",
    "zenml": "zenml[local]",
}
LIBRARIES = ["pandas", "scikit-learn", "pyarrow"]
LINES = {"chain": "10 chained steps", "fan": "fan-out of 50", "train": "training 200k x 20"}
TIMEOUT_S = 240.0
NO_CACHE = ("plain", "kedro", "dagster", "metaflow")
"""Engines that run every step again the second time."""


class Spent(NamedTuple):
    wall: float
    cpu: float


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
        command = [*install, PEERS[engine], *LIBRARIES]
        subprocess.run(command, check=True, capture_output=True, timeout=1200)
        (folder / ".ready").touch()
    return python


def environment(engine: str, home: Path) -> dict[str, str]:
    """Everything that an engine keeps goes into `home`; nothing is reported to anybody."""
    return {
        "PATH": f"{Path(python_of(engine)).parent}:/usr/bin:/bin",
        "HOME": str(home),
        "PYTHONPATH": str(HERE),
        "USERNAME": "bench",
        "OMP_NUM_THREADS": "1",
        "MODELYARD_HOME": str(home / "yard"),
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(home / "metaflow"),
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "KEDRO_DISABLE_TELEMETRY": "1",
        "ZENML_CONFIG_PATH": str(home / "zenml"),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_LOGGING_VERBOSITY": "ERROR",
        "ZENML_ENABLE_RICH_TRACEBACK": "false",
    }


def command_of(engine: str, scenario: str) -> list[str]:
    if engine == "modelyard, tracked":
        reference = f"run_modelyard.py:{scenario}"
        return [sys.executable, "-m", "modelyard", "run", reference, "--no-progress"]
    return [python_of(engine), str(HERE / f"run_{engine}.py"), scenario]


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
        why = f"did not end in {TIMEOUT_S:g} s" if process.returncode == -9 else words[-1][:100]
        raise RuntimeError(why)
    return Spent(wall, usage.ru_utime + usage.ru_stime)


def fresh(engine: str, scenario: str, tries: int) -> tuple[Spent, Spent | None]:
    """(median of first runs with nothing kept, one second run with everything kept where the engine has a cache)."""
    found: list[Spent] = []
    again = None
    for number in range(tries):
        with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as name:
            folder = Path(name)
            if engine.startswith("modelyard"):
                (folder / "modelyard.toml").write_text('[project]\nname = "bench"\n')
                for file in HERE.glob("*.py"):
                    shutil.copy(file, folder)
            if engine == "zenml":
                (folder / ".zen").mkdir()
            variables = environment(engine, folder)
            command = command_of(engine, scenario)
            found.append(spend(command, folder, variables))
            if number == tries - 1 and engine not in NO_CACHE:
                again = spend(command, folder, variables)
    middle = Spent(statistics.median(each.wall for each in found), statistics.median(each.cpu for each in found))
    return middle, again


def row(engine: str, plain: dict[str, Spent], scenarios: list[str], tries: int) -> list[str]:
    cells = [engine]
    second = "-" if engine == "plain" else "none"
    for scenario in scenarios:
        try:
            spent, again = fresh(engine, scenario, tries)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            cells += [f"failed: {error}", "-"]
            continue
        plain.setdefault(scenario, spent)
        base = plain[scenario]
        cells += [
            f"{spent.wall:.2f} s ({spent.wall / base.wall:.1f}x)",
            f"{spent.cpu:.2f} s ({spent.cpu / base.cpu:.2f}x)",
        ]
        if scenario == scenarios[-1] and again is not None:
            second = f"{again.wall:.2f} s"
    return [*cells, second]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", default=["modelyard", "modelyard, tracked", *PEERS])
    parser.add_argument("--lines", default="chain,fan,train", help="which of chain, fan, train")
    parser.add_argument("--tries", type=int, default=3, help="first runs of each, of which the median counts")
    asked = parser.parse_args()
    scenarios = [name for name in LINES if name in asked.lines.split(",")]
    titles = ["engine"]
    for name in scenarios:
        titles += [LINES[name], "CPU"]
    titles.append("second run of the last")
    print("| " + " | ".join(titles) + " |")
    print("|---" * len(titles) + "|", flush=True)
    plain: dict[str, Spent] = {}
    for engine in ["plain", *asked.engines]:
        print("| " + " | ".join(row(engine, plain, scenarios, asked.tries)) + " |", flush=True)


if __name__ == "__main__":
    main()
