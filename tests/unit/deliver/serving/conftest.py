"""Real parts of the data plane: model folders, worker and gateway processes on free ports, requests over HTTP."""

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard.build.pipelines import model_format
from modelyard.deliver.serving import probe
from modelyard.kit.files import atomic_write
from modelyard.kit.hashing import digest_file
from tests.conftest import wait_until
from tests.ports import free_port
from tests.unit.deliver.models import coded_model

TOKEN = "a-token-of-the-tests"
JSON = "application/json"

ODD = '''
"""A model that does what its input says."""

import os
import time
from pathlib import Path


class Odd:
    """Twice `x`; -1 raises, -2 ends the process, -3 waits for the gate file, -4 answers the rows of the call."""

    def __init__(self, gate, factor):
        self.gate, self.factor = gate, factor

    def predict(self, frame):
        answers = []
        for value in frame["x"].tolist() if hasattr(frame, "columns") else frame[:, 0].tolist():
            if value == -1:
                raise ValueError("the inside of the model")
            if value == -2:
                with open(self.gate + ".deaths", "a") as stream:
                    stream.write("x")
                os._exit(9)
            if value == -3:
                Path(self.gate + ".waiting").touch()
                while not os.path.exists(self.gate):
                    time.sleep(0.005)
            answers.append(float(len(frame)) if value == -4 else value * self.factor)
        return answers
'''


def manifest(folder: Path) -> dict[str, str]:
    return {file.relative_to(folder).as_posix(): digest_file(file) for file in folder.rglob("*") if file.is_file()}


def odd_model(folder: Path, gate: Path, factor: float = 2.0, flavor: str = "sklearn") -> Path:
    """An MLflow folder with code of its own, pickled: flavor `sklearn`, or `python_function` alone."""
    return coded_model(folder, "odd", ODD, lambda module: module.Odd(str(gate), factor), flavor=flavor)


def numeric_model(folder: Path, seed: int = 0) -> tuple[Any, pd.DataFrame]:
    """A logistic regression of four columns, saved in MLflow's format: (estimator, rows)."""
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(seed)
    rows = pd.DataFrame(random.normal(size=(200, 4)), columns=["a", "b", "c", "d"])
    model = LogisticRegression().fit(rows, (rows["a"] + rows["b"] > 0).astype(int))
    model_format.save(model, folder, rows.head(3))
    return model, rows


@dataclass
class Plane:
    """One environment's data plane; everything that it starts ends with `stop`."""

    folder: Path
    sockets: Path
    home: Path
    port: int = 0
    revision: int = 0
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def socket(self, name: str) -> str:
        return str(self.sockets / f"{name}.sock")

    def spec(self, name: str, model: Path, version: int = 1) -> Path:
        """Write what the supervisor would: one entry of desired.json."""
        entry = {
            "id": f"w-{name}",
            "deployment": name,
            "model": "m",
            "version": version,
            "digest": "0" * 64,
            "model_dir": str(model),
            "manifest": manifest(model),
            "socket": self.socket(name),
        }
        path = self.home / f"{name}.json"
        path.write_text(json.dumps(entry))
        return path

    def launch(self, name: str, *command: str, bytecode: bool = False) -> "subprocess.Popen[bytes]":
        quiet = {
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "" if bytecode else "1",
        }
        with (self.home / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], stdout=log, stderr=log, env={**os.environ, **quiet}
            )
        self.processes[name] = process
        return process

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text()

    def launch_worker(self, name: str, spec: Path) -> "subprocess.Popen[bytes]":
        return self.launch(name, "modelyard.deliver.serving.worker", "--spec", str(spec))

    def worker(self, name: str, model: Path, version: int = 1) -> "subprocess.Popen[bytes]":
        """A worker that answers."""
        process = self.launch_worker(name, self.spec(name, model, version))
        self.ready(name)
        return process

    def ready(self, name: str) -> dict[str, Any]:
        def state() -> dict[str, Any] | None:
            if self.processes[name].poll() is not None:
                raise AssertionError(f"{name} ended: {self.log(name)}")
            return asyncio.run(probe.ask(self.socket(name)))

        found = wait_until(state, f"worker {name}", deadline_s=90)
        assert isinstance(found, dict)
        return found

    def target(self, name: str, weight: float = 1.0, version: int = 1, sockets: list[str] | None = None) -> Any:
        found = [self.socket(name)] if sockets is None else sockets
        return {"deployment": name, "version": version, "weight": weight, "sockets": found}

    def route(
        self, *routes: Any, shadow: tuple[Any, ...] = (), limits: Any = None, log: Path | None = None, **more: Any
    ) -> int:
        """Replace routing.json by one endpoint `m`; its revision."""
        endpoint: dict[str, Any] = {"model": "m", "routes": routes, "shadow": shadow}
        if limits:
            endpoint["limits"] = limits
        if log is not None:
            endpoint["log"] = {"folder": str(log)}
        return self.route_endpoints({"m": endpoint}, **more)

    def route_endpoints(self, endpoints: dict[str, Any], **more: Any) -> int:
        self.revision += 1
        tokens = {hashlib.sha256(TOKEN.encode()).hexdigest(): "tester"}
        content = {"environment": "test", "revision": self.revision, "tokens": tokens, "endpoints": endpoints, **more}
        atomic_write(self.folder / "routing.json", json.dumps(content).encode(), mode=0o600, durable=False)
        return self.revision

    def reroute(self, *routes: Any, **options: Any) -> None:
        """Replace the routing and wait until the gateway follows it."""
        revision = self.route(*routes, **options)
        wait_until(lambda: self.stats().get("revision") == revision, "the gateway to follow the routing")

    def gateway(
        self, name: str = "gateway", port: int | None = None, options: tuple[str, ...] = ()
    ) -> "subprocess.Popen[bytes]":
        """A gateway that answers."""
        self.port = port or free_port()
        process = self.launch_gateway(name, self.port, *options)

        def answers() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"the gateway ended: {self.log(name)}")
            with contextlib.suppress(OSError):
                return self.call("GET", "/health")[0] == 200
            return False

        wait_until(answers, "the gateway")
        return process

    def launch_gateway(self, name: str, port: int, *more: str) -> "subprocess.Popen[bytes]":
        options = [*more, "--environment", "test", "--folder", str(self.folder), "--port", str(port)]
        admin = ["--admin-socket", self.socket("admin")]
        return self.launch(name, "modelyard.deliver.serving.gateway", *options, *admin)

    def stats(self) -> dict[str, Any]:
        """What the gateway says of itself, once it does: on a busy machine later than `probe.ask` waits for it."""
        found = wait_until(lambda: asyncio.run(probe.ask(self.socket("admin"))), "the gateway's word")
        assert isinstance(found, dict)
        return found

    def counted(self, deployment: str) -> dict[str, Any]:
        return self.stats()["endpoints"]["m"]["deployments"][deployment]

    def call(
        self, method: str, path: str, body: bytes | None = None, timeout: float = 30, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body); headers are given with underscores, the token goes along."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, {"authorization": f"Bearer {TOKEN}", **named})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def predict(self, content: Any, timeout: float = 30, **headers: str) -> tuple[int, dict[str, str], Any]:
        """(status, headers, decoded answer) of one scoring request to endpoint `m`."""
        body = json.dumps(content).encode()
        status, found, answer = self.call(
            "POST", "/endpoints/m/invocations", body, timeout, **{"content_type": JSON, **headers}
        )
        return status, found, json.loads(answer)

    def x(self, *values: float, **options: Any) -> tuple[int, dict[str, str], Any]:
        return self.predict({"inputs": {"x": list(values)}}, **options)

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        shutil.rmtree(self.sockets)


@contextlib.contextmanager
def opened_plane(home: Path) -> Iterator[Plane]:
    folder = home / "serving"
    folder.mkdir()
    # pytest's folders are too long for a Unix socket's path
    running = Plane(folder, Path(tempfile.mkdtemp(prefix="yard-")), home)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    with opened_plane(tmp_path) as running:
        yield running


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


@pytest.fixture
def odd(tmp_path: Path, gate: Path) -> Path:
    return odd_model(tmp_path / "odd", gate)
