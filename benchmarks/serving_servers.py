"""The servers of bench_serving: ours as the supervisor starts it, each peer in an environment of its own."""

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
from serving_load import tree

from modelyard.build.pipelines import model_format, onnx_graphs, onnx_twin
from modelyard.kit.hashing import digest_file

HERE = Path(__file__).parent / "serving_peers"
CACHE = Path.home() / ".cache" / "modelyard-bench"
TOKEN = "a-token-of-the-benchmark"
FEATURES = [f"feature_{index}" for index in range(20)]
START_S = 120.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
SKLEARN = "scikit-learn==1.9.1"
PEERS: dict[str, list[str]] = {
    "bare": [],
    "bare-batched": [],
    "onnx": [],
    "fastapi": [],
    "ray": ["ray[serve]", SKLEARN],
    "litserve": ["litserve", SKLEARN],
    "mlserver": ["mlserver", "mlserver-sklearn"],
    "bentoml": ["bentoml", SKLEARN],
    "mlflow": ["mlflow==3.17.2", SKLEARN, "skops==0.16.0"],
}
SCRIPTS = {
    "bare": ["bare.py", "alone"],
    "bare-batched": ["bare.py", "batched"],
    "onnx": ["bare.py", "batched"],
    "fastapi": ["fast.py"],
    "ray": ["ray_serve.py"],
    "litserve": ["lit.py"],
}


@dataclass
class Server:
    """What was started, and how it is asked."""

    port: int
    path: str = "/invocations"
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    shape: str = "split"
    headers: str = ""
    folder: Path = Path()
    log: Path = Path()

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
    """One trained model as a pickle, as ONNX and as an MLflow folder; `twin` says that the folder has both."""

    name: str
    pickle: Path
    folder: Path
    onnx: Path


def train(name: str, estimator: Any, home: Path, twin: bool = False) -> Model:
    """twin: ours serves the model by ONNX Runtime, as a version that was registered so."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame(random.normal(size=(2000, 20)), columns=FEATURES)
    labels = (rows["feature_0"] + rows["feature_1"] ** 2 > 1).astype(int)
    estimator.fit(rows, labels)
    folder = home / name
    model_format.save(estimator, folder, rows.head(3))
    if twin:
        made, why = onnx_twin.of(estimator, "predict_proba", rows, 1e-9)
        assert made is not None, why
        made.write(folder)
    file = home / f"{name}.pkl"
    plain = type(estimator)(**estimator.get_params()).fit(rows.to_numpy(), labels)
    file.write_bytes(pickle.dumps(plain))
    (home / f"{name}.onnx").write_bytes(onnx_graphs.convert(plain, "predict_proba"))
    return Model(name, file, folder, home / f"{name}.onnx")


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


def wait(server: Server) -> None:
    """Wait for the first answer. Raises RuntimeError with the end of the server's own words."""
    started = time.perf_counter()
    head, _, body = server.request(np.zeros((1, 20))).partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    while time.perf_counter() - started < START_S:
        if any(process.poll() is not None for process in server.processes):
            break
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("POST", server.path, body, headers)
            if connection.getresponse().status == 200:
                return
        time.sleep(0.02)
    raise RuntimeError(f"no answer: {server.log.read_text(errors='replace')[-400:]}")


def ours(models: list[Model], home: Path) -> Server:
    """Gateway and a worker for each model, as the supervisor starts them; the first has the traffic."""
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=home))
    sockets = Path(tempfile.mkdtemp(prefix="yb-"))
    server = Server(free_port(), "/endpoints/m/invocations", headers=f"authorization: Bearer {TOKEN}\r\n")
    server.folder, server.log = folder, folder / "gateway.log"
    for version, model in enumerate(models, start=1):
        server.processes.append(worker(model, version, folder, sockets))
    write_routing(server, {1: 1.0})
    command = [sys.executable, "-m", "modelyard.deliver.serving.gateway", "--environment", "bench"]
    command += ["--folder", str(folder), "--port", str(server.port), "--admin-socket", str(sockets / "admin.sock")]
    server.processes.append(launch(command, server.log))
    return server


def worker(model: Model, version: int, folder: Path, sockets: Path) -> "subprocess.Popen[bytes]":
    files = [file for file in model.folder.rglob("*") if file.is_file()]
    spec = {
        "id": f"w{version}", "deployment": f"d{version}", "model": "m", "version": version, "digest": "0" * 64,
        "model_dir": str(model.folder), "socket": str(sockets / f"{version}.sock"),
        "manifest": {file.relative_to(model.folder).as_posix(): digest_file(file) for file in files},
    }  # fmt: skip
    file = folder / f"w{version}.json"
    file.write_text(json.dumps(spec))
    return launch([sys.executable, "-m", "modelyard.deliver.serving.worker", "--spec", str(file)], folder / "w.log")


def write_routing(server: Server, weights: dict[int, float], *, log: bool = True, shadow: int = 0) -> None:
    """Give each version its weight; `shadow` is the version that all requests are mirrored to."""
    specs = [json.loads(file.read_text()) for file in sorted(server.folder.glob("w*.json"))]
    targets = [
        {key: spec[key] for key in ("deployment", "version")} | {"sockets": [spec["socket"]]} for spec in specs
    ]
    routes = [{**target, "weight": weights.get(target["version"], 0.0)} for target in targets]
    endpoint: dict[str, Any] = {"model": "m", "routes": routes, "limits": {"max_concurrency": 1024}}
    endpoint["shadow"] = [target for target in targets if target["version"] == shadow]
    if log:
        endpoint["log"] = {"folder": str(server.folder / "log")}
    tokens = {hashlib.sha256(TOKEN.encode()).hexdigest(): "bench"}
    content = {"environment": "bench", "revision": 1, "tokens": tokens, "endpoints": {"m": endpoint}}
    temporary = server.folder / "routing.next"
    temporary.write_text(json.dumps(content))
    temporary.rename(server.folder / "routing.json")


def installed(name: str) -> Path:
    """The interpreter of a peer's own environment, made when missing. Raises RuntimeError."""
    if not PEERS[name]:
        return Path(sys.executable)
    folder = CACHE / name
    python = folder / "bin" / "python"
    if (folder / ".ok").exists():
        return python
    uv = shutil.which("uv")
    maker = [uv, "venv", "-q"] if uv else [sys.executable, "-m", "venv"]
    pip = [uv, "pip", "install", "-q", "--python", str(python)] if uv else [str(python), "-m", "pip", "install", "-q"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not python.exists():
        subprocess.run([*maker, str(folder)], check=True)
    done = subprocess.run([*pip, *PEERS[name]], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"cannot be installed: {done.stderr.strip()[-300:]}")
    (folder / ".ok").touch()
    return python


def peer(name: str, model: Model, home: Path) -> Server:
    """A peer with the model, in its own environment. Raises RuntimeError."""
    python = installed(name)
    server = Server(free_port(), log=home / f"{name}.log")
    path = f"{python.parent}:{os.environ['PATH']}"
    if name in SCRIPTS:
        script, *more = SCRIPTS[name]
        file = model.onnx if name == "onnx" else model.pickle
        command = [str(python), str(HERE / script), str(file), str(server.port), *more]
        server.path = "/predict" if name == "litserve" else server.path
    elif name == "bentoml":
        command = [str(python.parent / "bentoml"), "serve", "bento:Model", "--host", "127.0.0.1"]
        command += ["--port", str(server.port), "--working-dir", str(HERE)]
        server.path, server.shape = "/predict", "rows"
    elif name == "mlflow":
        command = [str(python.parent / "mlflow"), "models", "serve", "-m", str(model.folder)]
        command += ["-p", str(server.port), "--env-manager", "local", "--workers", "1"]
    else:
        command = [str(python.parent / "mlserver"), "start", str(mlserver_folder(model, server.port, home))]
        server.path, server.shape = "/v2/models/m/infer", "v2"
    environment = {"BENTOML_DO_NOT_TRACK": "True", "MODEL": str(model.pickle), "PATH": path}
    server.processes.append(launch(command, server.log, **environment))
    return server


def mlserver_folder(model: Model, port: int, home: Path) -> Path:
    """Settings without MLServer's parallel workers, which is its best."""
    folder = Path(tempfile.mkdtemp(prefix="mlserver-", dir=home))
    shutil.copy(model.pickle, folder / "model.pickle")
    settings = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port(), "parallel_workers": 0}
    (folder / "settings.json").write_text(json.dumps({**settings, "host": "127.0.0.1", "debug": False}))
    runtime = {"implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "./model.pickle"}}
    (folder / "model-settings.json").write_text(json.dumps({"name": "m", **runtime}))
    return folder


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """The server from its first answer on; its processes are gone afterwards."""
    try:
        wait(server)
        yield server
    finally:
        stop(server)


def stop(server: Server) -> None:
    everything = {pid for process in server.processes for pid in tree(process.pid)}
    for process in server.processes:
        process.terminate()
    for process in server.processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
    for pid in everything:  # what outlived its parent
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for process in server.processes:
        process.wait(10)
