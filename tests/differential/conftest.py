"""A real `mlflow server` beside ours: the same requests go to both and the answers are compared."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import urllib3

from tests.conftest import RunningServer
from tests.ports import free_port

RELEASE = "3.17.2"
PEERS = Path.home() / ".cache" / "modelyard-peers"
START_S = 180.0
TIMES = re.compile(r"(time|timestamp|timestamp_ms|created_at)$")
HEX = re.compile(r"\bm-[0-9a-f]{32}\b|\b[0-9a-f]{32}\b")


def peer_python() -> Path:
    """The interpreter of an environment with the full `mlflow`, made once outside the project."""
    home = PEERS / f"mlflow-{RELEASE}"
    python = home / "bin" / "python"
    if (home / "bin" / "mlflow").exists():
        return python
    wanted = f"mlflow=={RELEASE}"
    if shutil.which("uv"):
        subprocess.run(["uv", "venv", "-q", "--clear", "--python", sys.executable, str(home)], check=True)
        subprocess.run(["uv", "pip", "install", "-q", "--python", str(python), wanted], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", wanted], check=True)
    return python


@contextmanager
def peer_server(folder: Path) -> Iterator[str]:
    """The address of a running `mlflow server` of RELEASE with a store in `folder`, new or as it is there."""
    python, port = peer_python(), free_port()
    command = [str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "mlartifacts"),
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")} | quiet
    with (folder / "peer.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True
        )
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + START_S
        pool = urllib3.PoolManager(retries=False)
        while True:
            if process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"mlflow server did not start: {(folder / 'peer.log').read_text()[-2000:]}")
            try:
                if pool.request("GET", f"{url}/health", timeout=5).status == 200:
                    break
            except urllib3.exceptions.HTTPError:
                time.sleep(0.2)
        yield url
        os.killpg(process.pid, 15)
        process.wait(30)


@pytest.fixture(scope="session")
def peer_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running `mlflow server` of RELEASE with a new SQLite store (or of the one in PEER_URL)."""
    if "PEER_URL" in os.environ:
        yield os.environ["PEER_URL"]
        return
    with peer_server(tmp_path_factory.mktemp("peer")) as url:
        yield url


@dataclass
class Side:
    """One server, and the names that the ids it gave are compared by."""

    url: str
    token: str = ""
    names: dict[str, str] = field(default_factory=dict[str, str])
    saved: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        self._pool = urllib3.PoolManager(retries=False)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, /, **query: Any) -> tuple[int, Any]:
        """(status, answer) with ids as names and times left out. `{name}` in the request stands for a saved id."""
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        fill = re.compile(r"\{(\w+)\}")

        def filled(text: str) -> str:
            return fill.sub(lambda found: self.saved.get(found[1], found[0]), text)

        data = None if body is None else filled(json.dumps(body))
        fields = [
            (key, filled(str(item)))
            for key, value in query.items()
            for item in (value if isinstance(value, list) else [value])
        ]
        target = f"{self.url}/{'' if path.startswith('ajax') else 'api/'}{filled(path)}"
        if fields:
            target += "?" + urlencode(fields)
        answer = self._pool.request(method, target, body=data, headers=headers, timeout=60)
        try:
            value = json.loads(answer.data) if answer.data else {}
        except json.JSONDecodeError:
            value = {"error_code": "(no JSON)"}
        return answer.status, value

    def save(self, name: str, value: str) -> None:
        self.saved[name] = value
        self.names[value] = f"<{name}>"

    def shown(self, value: Any, key: str = "") -> Any:
        """A value without what two correct servers answer differently."""
        if isinstance(value, dict):
            kept = {k: self.shown(v, k) for k, v in value.items() if not TIMES.search(k) or k == "timestamp"}
            return {k: v for k, v in kept.items() if v not in ([], {}, "", None)}
        if isinstance(value, list):
            items = [self.shown(item) for item in value]
            if key == "latest_versions":
                return sorted(items, key=str)
            return sorted(items, key=_by_key) if items and all(_by_key(item) for item in items) else items
        if isinstance(value, float) and abs(value) > 1.797e308:
            return "Infinity" if value > 0 else "-Infinity"  # MLflow keeps the largest double instead
        if isinstance(value, str):
            if key == "experiment_id":
                return self.names.get(value, value)
            value = re.sub(r"^mlflow-artifacts:/\d+", "mlflow-artifacts:/<e>", value)
            return HEX.sub(lambda found: self.names.get(found[0], "<id>"), value)
        return value


def _by_key(item: Any) -> str:
    """What a list of params, tags or newest metrics is sorted by: no order is promised for them."""
    if not isinstance(item, dict) or "key" not in item:
        return ""
    return f"{item['key']} {item.get('timestamp', 0):20} {item.get('step', 0):20} {item.get('value')}"


@dataclass
class Pair:
    """Both servers. `same` sends one request to each and compares what they answer."""

    ours: Side
    theirs: Side
    differences: list[str] = field(default_factory=list[str])

    def same(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        /,
        *,
        save: dict[str, str] | None = None,
        skip: tuple[str, ...] = (),
        **query: Any,
    ) -> Any:
        """Our answer, after comparing it. `save` names ids of the answer by their dotted place in it."""
        shown: list[Any] = []
        for side in (self.ours, self.theirs):
            status, answer = side.call(method, path, body, **query)
            for name, place in (save or {}).items():
                found: Any = answer
                for part in place.split("."):
                    found = found[part]
                side.save(name, found)
            if status == 500 and side is self.theirs:
                status = 400  # what MLflow calls its own fault, upon which its clients try six times more
            comparable = answer if status < 400 else {"error_code": answer.get("error_code")}
            if status == 400 and side is self.theirs and comparable["error_code"] == "INTERNAL_ERROR":
                comparable = {"error_code": "INVALID_PARAMETER_VALUE"}
            shown.append((status, _without(side.shown(comparable), skip)))
        if shown[0] != shown[1]:
            asked = str(body if body is not None else query)[:300]
            self.differences.append(f"{method} {path} {asked}\n{_first_difference(*shown)}")
        return shown[0][1]


def _first_difference(ours: Any, theirs: Any, place: str = "") -> str:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            if ours.get(key) != theirs.get(key):
                return _first_difference(ours.get(key), theirs.get(key), f"{place}.{key}")
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            if one != other:
                return _first_difference(one, other, f"{place}[{index}]")
    return f"  at {place}\n  ours:   {str(ours)[:600]}\n  mlflow: {str(theirs)[:600]}"


def _without(value: Any, skip: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, skip) for key, item in value.items() if key not in skip}
    return [_without(item, skip) for item in value] if isinstance(value, list) else value


@pytest.fixture
def pair(server: RunningServer, peer_url: str) -> Iterator[Pair]:
    both = Pair(Side(server.url, server.token), Side(peer_url))
    yield both
    assert not both.differences, "\n".join([f"{len(both.differences)} answers differ:", *both.differences])
