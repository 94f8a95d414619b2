"""The lines of bench_pipelines that only modelyard is measured on, each beside what does the least possible."""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from subprocess import DEVNULL

from pipeline_engines import OURS, SCRIPTS, Spent, command_of, place, spend

Figures = dict[str, float]
FEW, MANY, WORKERS = 10, 1010, 60


def _chain(engine: str, script: str, length: int) -> Spent:
    with place(engine) as (folder, variables):
        command = [*command_of(engine, "chain")[:1], str(SCRIPTS / script), "chain"]
        return spend(command, folder, {**variables, "CHAIN": str(length)})


def _each(engine: str, script: str, few: int, many: int, tries: int) -> tuple[float, float]:
    """(ms of wall time, ms of CPU) that one more step costs."""
    pairs = [(_chain(engine, script, few), _chain(engine, script, many)) for _ in range(tries)]
    wall = statistics.median(after.wall - before.wall for before, after in pairs)
    cpu = statistics.median(after.cpu - before.cpu for before, after in pairs)
    return wall / (many - few) * 1000, cpu / (many - few) * 1000


def steps(tries: int) -> Figures:
    """What a step costs in the runner's process, and in a warm worker."""
    inside = _each(OURS, "run_modelyard.py", FEW, MANY, tries)
    workers = _each(OURS, "run_limited.py", FEW, WORKERS, tries)
    return {
        "a step in process, ms": inside[0],
        "a step in process, ms of CPU": inside[1],
        "a step in a warm worker, ms": workers[0],
        "a step in a warm worker, ms of CPU": workers[1],
    }


def graph(tries: int) -> Figures:
    """Planning, and what a run of many steps holds in memory."""
    found: dict[int, dict[str, float]] = {}
    for length in (1000, 10_000):
        command = [sys.executable, str(SCRIPTS / "plan.py")]
        with place(OURS) as (folder, variables):
            variables = {**variables, "CHAIN": str(length)}
            answers = [json.loads(subprocess.check_output(command, cwd=folder, env=variables)) for _ in range(tries)]
        found[length] = {name: statistics.median(each[name] for each in answers) for name in answers[0]}
    short, long = _chain(OURS, "run_modelyard.py", 10), _chain(OURS, "run_modelyard.py", 10_000)
    return {
        "10,000 steps planned, s": found[10_000]["seconds"],
        "10,000 steps planned, MB": found[10_000]["mb"],
        "10,000 steps planned, times the MB of 1,000": found[10_000]["mb"] / max(found[1000]["mb"], 0.1),
        "10,000 steps run, MB more than 10": long.peak_mb - short.peak_mb,
        "10,000 steps run, ms each": (long.wall - short.wall) / 9.99,
    }


def frame(tries: int, gigabytes: float = 1.0) -> Figures:
    """A large frame between steps, as a share of what the disk does."""
    command = [sys.executable, str(SCRIPTS / "frame.py"), str(gigabytes)]
    with place(OURS) as (folder, variables):
        found = json.loads(subprocess.check_output(command, cwd=folder, env=variables))
    size = found["bytes"] / 1e6
    return {
        "1 GB frame kept, MB/s": size / found["keep"],
        "1 GB frame taken by another process, MB/s": size / found["take"],
        "1 GB written and read, MB/s": size / (found["write"] + found["read"]),
        "1 GB frame between steps, share of disk speed": (found["write"] + found["read"])
        / (found["keep"] + found["take"]),
    }


def ray(tries: int) -> Figures:
    """100 tasks of 50 ms on a cluster of this machine that has started, bare and as a pipeline's steps."""
    bare, ours = [], []
    with _ray_cluster() as told:
        for _ in range(tries):
            with place(OURS) as (folder, variables):
                bare.append(_bare_ray(folder, variables | told))
            with place(OURS) as (folder, variables):
                command = [sys.executable, "-m", "modelyard", "run", "run_ray.py:fan", "--engine", "ray", "--json"]
                out = subprocess.check_output(command, cwd=folder, env=variables | told, text=True, stderr=DEVNULL)
                ours.append(json.loads(out[out.index("{") :])["seconds"])
    return {
        "Ray, 100 bare tasks of 50 ms, s": statistics.median(bare),
        "Ray, the same as steps, s": statistics.median(ours),
        "Ray, steps over bare tasks": statistics.median(ours) / statistics.median(bare),
    }


@contextlib.contextmanager
def _ray_cluster() -> Generator[dict[str, str]]:
    """A node of two CPUs, and the variables by which it is found."""
    with socket.socket() as free, tempfile.TemporaryDirectory(prefix="yr-", ignore_cleanup_errors=True) as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--port", str(port)]
        command += ["--num-cpus", "2", "--include-dashboard", "false", "--temp-dir", folder]
        told = {"RAY_ADDRESS": f"127.0.0.1:{port}", "RAY_USAGE_STATS_ENABLED": "0"}
        told |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.urandom(16).hex()}
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | told
        del variables["RAY_ADDRESS"]
        ray = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=DEVNULL, text=True)
        try:
            assert ray.stdout is not None
            for line in ray.stdout:
                if "--block" in line:  # its last words: this command will now block
                    break
            yield told
        finally:
            ray.terminate()
            ray.communicate(timeout=30)


def _bare_ray(folder: Path, variables: dict[str, str]) -> float:
    command = [sys.executable, str(SCRIPTS / "run_ray.py")]
    out = subprocess.check_output(command, cwd=folder, env=variables, text=True, stderr=subprocess.DEVNULL)
    return float(out.split("SECONDS")[1])


PARTS = {"steps": steps, "graph": graph, "frame": frame, "ray": ray}
