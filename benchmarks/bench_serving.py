"""Serving beside its peers, in one run: requests/s, latency, CPU, memory, cold start, a switch of versions.

    make bench-serving                     # everything that can be installed
    make bench-serving BENCH="--peers bare,bare-batched,fastapi --seconds 3"

Ours is the whole path: gateway with authentication, metrics and prediction log, one worker. Each peer runs in a
virtual environment of its own under ~/.cache/modelyard-bench; one that cannot be installed is reported and left out.
Ratios of one run are what counts: the seconds depend on the machine.
"""

import argparse
import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import uvloop
from serving_load import Result, cpu_s, drive, resident_mb

from modelyard.build.pipelines import model_format
from modelyard.kit.hashing import digest_file

HERE = Path(__file__).parent / "serving_peers"
CACHE = Path.home() / ".cache" / "modelyard-bench"
TOKEN = "a-token-of-the-benchmark"
FEATURES = [f"feature_{index}" for index in range(20)]
CELLS = ((1, 1), (1, 32), (100, 32))
START_S = 120.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
SKLEARN = "scikit-learn==1.9.1"
PEERS: dict[str, list[str]] = {
    "bare": [],
    "bare-batched": [],
    "fastapi": [],
    "litserve": ["litserve", SKLEARN],
    "mlserver": ["mlserver", "mlserver-sklearn"],
    "bentoml": ["bentoml", SKLEARN],
    "mlflow": ["mlflow==3.17.2", SKLEARN, "skops==0.16.0"],
}


@dataclass
class Server:
    """What was started, and how it is asked."""

    port: int
    path: str = "/invocations"
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    shape: str = "split"
    headers: str = ""
    cold_s: float = 0.0
    folder: Path = Path()

    def request(self, rows: Any) -> bytes:
        data = rows.tolist()
        if self.shape == "v2":
            tensor = {"name": "x", "shape": list(rows.shape), "datatype": "FP64", "data": data}
            content: Any = {"inputs": [tensor], "outputs": [{"name": "predict_proba"}]}
        elif self.shape == "rows":
            content = {"rows": data}
        else:
            content = {"dataframe_split": {"columns": FEATURES, "data": data}}
        body = json.dumps(content).encode()
        head = f"POST {self.path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\ncontent-type: application/json\r\n"
        return f"{head}{self.headers}content-length: {len(body)}\r\n\r\n".encode() + body

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]


@dataclass
class Model:
    """One trained model as a pickle and as an MLflow folder."""

    name: str
    pickle: Path
    folder: Path


def train(name: str, estimator: Any, home: Path) -> Model:
    random = np.random.default_rng(0)
    rows = pd.DataFrame(random.normal(size=(2000, 20)), columns=FEATURES)
    labels = (rows["feature_0"] + rows["feature_1"] ** 2 > 1).astype(int)
    estimator.fit(rows, labels)
    folder = home / name
    model_format.save(estimator, folder, rows.head(3))
    file = home / f"{name}.pkl"
    plain = type(estimator)(**estimator.get_params()).fit(rows.to_numpy(), labels)
    file.write_bytes(pickle.dumps(plain))
    return Model(name, file, folder)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def launch(command: list[str], log: Path, **environment: str) -> "subprocess.Popen[bytes]":
    with log.open("ab") as stream:
        return subprocess.Popen(
            command, stdout=stream, stderr=stream, env={**os.environ, **ONE_THREAD, **environment}, cwd=log.parent,
            start_new_session=True,
        )  # fmt: skip


def answers(server: Server, request: bytes, log: Path) -> None:
    """Wait for the first answer; notes how long that took. Raises RuntimeError."""
    started = time.perf_counter()
    head, _, body = request.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    while time.perf_counter() - started < START_S:
        if any(process.poll() is not None for process in server.processes):
            break
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("POST", server.path, body, headers)
            if connection.getresponse().status == 200:
                server.cold_s = time.perf_counter() - started
                return
        time.sleep(0.02)
    raise RuntimeError(f"no answer: {log.read_text(errors='replace')[-400:]}")


def ours(models: list[Model], home: Path, port: int) -> Server:
    """Gateway and a worker for each model, as the supervisor starts them."""
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=home))
    sockets = Path(tempfile.mkdtemp(prefix="yb-"))
    processes: list[subprocess.Popen[bytes]] = []
    routes: list[dict[str, Any]] = []
    for version, model in enumerate(models, start=1):
        files = [file for file in model.folder.rglob("*") if file.is_file()]
        spec = {
            "id": f"w{version}", "deployment": f"d{version}", "model": "m", "version": version, "digest": "0" * 64,
            "model_dir": str(model.folder), "socket": str(sockets / f"{version}.sock"),
            "manifest": {file.relative_to(model.folder).as_posix(): digest_file(file) for file in files},
        }  # fmt: skip
        (folder / f"w{version}.json").write_text(json.dumps(spec))
        command = [
            sys.executable,
            "-m",
            "modelyard.deliver.serving.worker",
            "--spec",
            str(folder / f"w{version}.json"),
        ]
        processes.append(launch(command, folder / "worker.log", PYTHONDONTWRITEBYTECODE="1"))
        route = {"deployment": f"d{version}", "version": version, "sockets": [spec["socket"]]}
        routes.append({**route, "weight": float(version == 1)})
    write_routing(folder, routes, 1)
    command = [sys.executable, "-m", "modelyard.deliver.serving.gateway", "--environment", "bench"]
    command += ["--folder", str(folder), "--port", str(port), "--admin-socket", str(sockets / "admin.sock")]
    processes.append(launch(command, folder / "gateway.log"))
    server = Server(port, "/endpoints/m/invocations", processes, headers=f"authorization: Bearer {TOKEN}\r\n")
    server.folder = folder
    return server


def write_routing(folder: Path, routes: list[dict[str, Any]], revision: int, log: bool = True) -> None:
    endpoint: dict[str, Any] = {"model": "m", "routes": routes, "limits": {"max_concurrency": 1024}}
    if log:
        endpoint["log"] = {"folder": str(folder / "log")}
    tokens = {hashlib.sha256(TOKEN.encode()).hexdigest(): "bench"}
    content = {"environment": "bench", "revision": revision, "tokens": tokens, "endpoints": {"m": endpoint}}
    temporary = folder / "routing.next"
    temporary.write_text(json.dumps(content))
    temporary.rename(folder / "routing.json")


def installed(name: str) -> Path:
    """The interpreter of a peer's own environment, made when missing. Raises RuntimeError."""
    if not PEERS[name]:
        return Path(sys.executable)
    folder = CACHE / name
    python = folder / "bin" / "python"
    if (folder / ".ok").exists():
        return python
    maker = (
        [shutil.which("uv") or "", "venv", "-q", str(folder)]
        if shutil.which("uv")
        else [sys.executable, "-m", "venv", str(folder)]
    )
    pip = (
        [shutil.which("uv") or "", "pip", "install", "-q", "--python", str(python)]
        if shutil.which("uv")
        else [str(python), "-m", "pip", "install", "-q"]
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not python.exists():
        subprocess.run(maker, check=True)
    done = subprocess.run([*pip, *PEERS[name]], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"cannot be installed: {done.stderr.strip()[-300:]}")
    (folder / ".ok").touch()
    return python


def peer(name: str, model: Model, home: Path, port: int) -> Server:
    """A peer with the model, in its own environment. Raises RuntimeError."""
    python = installed(name)
    log = home / f"{name}.log"
    if name in ("bare", "bare-batched"):
        how = "batched" if name == "bare-batched" else "alone"
        return Server(
            port, processes=[launch([str(python), str(HERE / "bare.py"), str(model.pickle), str(port), how], log)]
        )
    if name == "fastapi":
        return Server(
            port, processes=[launch([str(python), str(HERE / "fast.py"), str(model.pickle), str(port)], log)]
        )
    if name == "litserve":
        process = launch([str(python), str(HERE / "lit.py"), str(model.pickle), str(port)], log)
        return Server(port, "/predict", [process])
    path = f"{python.parent}:{os.environ['PATH']}"
    if name == "bentoml":
        command = [str(python.parent / "bentoml"), "serve", "bento:Model", "--port", str(port), "--host", "127.0.0.1"]
        quiet = {"BENTOML_DO_NOT_TRACK": "True", "MODEL": str(model.pickle), "PATH": path}
        process = launch([*command, "--working-dir", str(HERE)], log, **quiet)
        return Server(port, "/predict", [process], "rows")
    if name == "mlflow":
        command = [str(python.parent / "mlflow"), "models", "serve", "-m", str(model.folder), "-p", str(port)]
        process = launch([*command, "--env-manager", "local", "--workers", "1"], log, PATH=path)
        return Server(port, processes=[process])
    folder = Path(tempfile.mkdtemp(prefix="mlserver-", dir=home))
    shutil.copy(model.pickle, folder / "model.pickle")
    settings = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port(), "parallel_workers": 0}
    (folder / "settings.json").write_text(json.dumps({**settings, "host": "127.0.0.1", "debug": False}))
    described = {
        "name": "m",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.pickle"},
    }
    (folder / "model-settings.json").write_text(json.dumps(described))
    process = launch([str(python.parent / "mlserver"), "start", str(folder)], log, PATH=path)
    return Server(port, "/v2/models/m/infer", [process], "v2")


@contextlib.contextmanager
def running(name: str, model: Model, home: Path) -> Iterator[Server]:
    server = ours([model], home, free_port()) if name == "modelyard" else peer(name, model, home, free_port())
    log = server.folder / "gateway.log" if name == "modelyard" else home / f"{name}.log"
    try:
        answers(server, server.request(np.zeros((1, 20))), log)
        yield server
    finally:
        stop(server)


def stop(server: Server) -> None:
    for process in server.processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
    for process in server.processes:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait(10)


def measure(server: Server, rows: int, connections: int, seconds: float) -> Result:
    request = server.request(np.random.default_rng(1).normal(size=(rows, 20)).round(6))
    uvloop.run(drive(server.port, request, connections, 0.5))
    before = cpu_s(server.pids)
    result = uvloop.run(drive(server.port, request, connections, seconds))
    result.cpu_us = (cpu_s(server.pids) - before) / max(1, len(result.latencies)) * 1e6
    return result


def table(model: Model, peers: list[str], home: Path, seconds: float) -> dict[str, dict[tuple[int, int], Result]]:
    """Measure and print one table; what was measured, by server."""
    print(f"\n### {model.name}\n")
    print(
        "| server | "
        + " | ".join(f"{rows} x {n}: req/s, p50, p99 ms, CPU us" for rows, n in CELLS)
        + " | RSS MB | cold s |"
    )
    print("|---" * (len(CELLS) + 3) + "|")
    measured: dict[str, dict[tuple[int, int], Result]] = {}
    for name in peers:
        try:
            with running(name, model, home) as server:
                cells = {cell: measure(server, *cell, seconds) for cell in CELLS}
                memory = resident_mb(server.pids)
                gateway = f" (gateway {resident_mb(server.pids[-1:]):.0f})" if name == "modelyard" else ""
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            print(f"| {name} | not measured: {str(error)[:200]!r} |", flush=True)
            continue
        measured[name] = cells
        shown = [
            f"{r.rate:,.0f}, {r.quantile(0.5):.2f}, {r.quantile(0.99):.2f}, {r.cpu_us:.0f}"
            + (f", {r.failed} failed" if r.failed else "")
            for r in cells.values()
        ]
        print(f"| {name} | {' | '.join(shown)} | {memory:.0f}{gateway} | {server.cold_s:.1f} |", flush=True)
    return measured


def ratios(measured: dict[str, dict[tuple[int, int], Result]]) -> None:
    """Print ours against each peer."""
    mine = measured.get("modelyard")
    if mine is None:
        return
    for name, cells in measured.items():
        if name == "modelyard":
            continue
        shown = [f"{rows} x {n}: {mine[rows, n].rate / max(cells[rows, n].rate, 1e-9):.2f}x" for rows, n in cells]
        print(f"- modelyard / {name}: requests/s {', '.join(shown)}; "
              f"p50 at one connection {mine[1, 1].quantile(0.5) / cells[1, 1].quantile(0.5):.2f}x")  # fmt: skip


def log_cost(model: Model, home: Path, seconds: float) -> None:
    """CPU of a request with and without the prediction log, alternating in one run."""
    with running("modelyard", model, home) as server:
        routes = [
            {
                "deployment": "d1",
                "version": 1,
                "weight": 1.0,
                "sockets": json.loads((server.folder / "routing.json").read_text())["endpoints"]["m"]["routes"][0][
                    "sockets"
                ],
            }
        ]
        spent: dict[bool, list[float]] = {True: [], False: []}
        rates: dict[bool, list[float]] = {True: [], False: []}
        for turn in range(8):
            logged = turn % 2 == 0
            write_routing(server.folder, routes, turn + 2, logged)
            time.sleep(0.3)
            found = measure(server, 1, 32, seconds / 2)
            spent[logged].append(found.cpu_us)
            rates[logged].append(found.rate)
        cost = np.median(spent[True]) / np.median(spent[False]) - 1
        lost = 1 - np.median(rates[True]) / np.median(rates[False])
        print(
            f"\nPrediction log: {cost * 100:+.1f}% CPU a request, {lost * 100:+.1f}% throughput lost (medians of 4)."
        )


def switch(models: list[Model], home: Path, rate: int = 2000, seconds: float = 6.0) -> None:
    """Switch versions three times at `rate` requests/s; failures, and the latency in the 200 ms around a switch."""
    server = ours(models, home, free_port())
    try:
        answers(server, server.request(np.zeros((1, 20))), server.folder / "gateway.log")
        time.sleep(1.0)
        uvloop.run(_switching(server, rate, seconds))
    finally:
        stop(server)


async def _switching(server: Server, rate: int, seconds: float) -> None:
    request = server.request(np.zeros((1, 20)))
    held = json.loads((server.folder / "routing.json").read_text())["endpoints"]["m"]["routes"]
    found: list[tuple[float, float, int]] = []
    connections = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(32)]
    end = time.perf_counter() + seconds
    flips: list[float] = []

    async def caller(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, offset: float) -> None:
        due = time.perf_counter() + offset
        while due < end:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            started = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
            await reader.readexactly(length)
            found.append((started, (time.perf_counter() - started) * 1000, int(head[9:12])))
            due += len(connections) / rate

    async def flipper() -> None:
        for turn in range(3):
            await asyncio.sleep(seconds / 4)
            routes = [{**route, "weight": float((index + turn) % 2)} for index, route in enumerate(held)]
            write_routing(server.folder, routes, turn + 2)
            flips.append(time.perf_counter())

    tasks = [caller(*one, index / rate) for index, one in enumerate(connections)]
    await asyncio.gather(flipper(), *tasks)
    near = [took for started, took, _ in found if any(-0.1 < started - flip < 0.2 for flip in flips)]
    away = [took for started, took, _ in found if not any(-0.1 < started - flip < 0.2 for flip in flips)]
    failed = sum(status != 200 for _, _, status in found)
    p99 = [float(np.quantile(part, 0.99)) for part in (away, near)]
    print(
        f"\nSwitch of versions: {len(found)} requests at {len(found) / seconds:,.0f}/s, 3 switches, {failed} failed; "
        f"p99 {p99[0]:.1f} ms away from a switch, {p99[1]:.1f} ms around it."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=",".join(PEERS), help="which of: " + ", ".join(PEERS))
    parser.add_argument("--seconds", type=float, default=4.0, help="of each cell")
    parser.add_argument("--models", default="logistic,boosting")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends with it
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    estimators = {"logistic": LogisticRegression(), "boosting": HistGradientBoostingClassifier(max_iter=100)}
    peers = ["modelyard", *[name for name in arguments.peers.split(",") if name]]
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as name:
        home = Path(name)
        models = [train(key, estimators[key], home) for key in arguments.models.split(",")]
        for model in models:
            ratios(table(model, peers, home, arguments.seconds))
        log_cost(models[0], home, arguments.seconds)
        switch([models[0], models[0]], home)


if __name__ == "__main__":
    main()
