"""The servers that bench_tracking measures: modelyard, MLflow, and a bare handler that does the least possible."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

RELEASE = "3.17.2"
PEERS = Path.home() / ".cache" / "modelyard-peers"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Running:
    """A server process with its children: its address, token, CPU seconds and memory."""

    name: str
    url: str
    process: "subprocess.Popen[bytes]"
    token: str = ""
    start_s: float = 0.0
    folder: Path = Path()
    idle_share: float = 0.0

    def pids(self) -> list[int]:
        found, queue = [], [self.process.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            try:
                for task in Path(f"/proc/{pid}/task").iterdir():
                    queue += [int(child) for child in (task / "children").read_text().split()]
            except OSError:
                continue
        return found

    def cpu_s(self) -> float:
        total = 0.0
        for pid in self.pids():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += (int(fields[11]) + int(fields[12])) / TICKS
        return total

    def measure_idle(self, seconds: float = 5.0) -> None:
        before = self.cpu_s()
        time.sleep(seconds)
        self.idle_share = (self.cpu_s() - before) / seconds

    def rss_mb(self) -> float:
        total = 0.0
        for pid in self.pids():
            try:
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
        return total

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}", "content-type": "application/json"}

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(url: str, process: "subprocess.Popen[bytes]", since: float) -> float:
    pool = urllib3.PoolManager(retries=False)
    while time.monotonic() - since < 300:
        if process.poll() is not None:
            raise SystemExit(f"the server at {url} ended with {process.returncode}")
        try:
            if pool.request("GET", url, timeout=5).status == 200:
                return time.monotonic() - since
        except urllib3.exceptions.HTTPError:
            time.sleep(0.02)
    raise SystemExit(f"no answer from {url}")


def _spawn(command: list[str], folder: Path, **extra: str) -> "subprocess.Popen[bytes]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "MODELYARD"))} | extra
    with (folder / "server.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)


def modelyard(folder: Path, *options: str) -> Running:
    """`modelyard server` on a yard in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "modelyard.toml").write_text('[project]\nname = "bench"\n')
    port, began = free_port(), time.monotonic()
    command = [sys.executable, "-m", "modelyard", "server", "--home", str(folder / ".modelyard")]
    process = _spawn([*command, "--project", str(folder), "--port", str(port), *options], folder)
    url = f"http://127.0.0.1:{port}"
    took = _wait(f"{url}/health", process, began)
    token = json.loads((folder / ".modelyard" / "credentials.json").read_text())["local"]["token"]
    return Running("modelyard", url, process, token, took, folder)


def peer_python() -> str:
    """The interpreter of MLflow's own environment, made once."""
    home = PEERS / f"mlflow-{RELEASE}"
    python = str(home / "bin" / "python")
    if not (home / "psycopg").exists():
        uv = shutil.which("uv")
        if not (home / "bin" / "mlflow").exists():
            maker = ["uv", "venv", "-q", str(home)] if uv else [sys.executable, "-m", "venv", str(home)]
            subprocess.run(maker, check=True)
        pip = ["uv", "pip", "install", "-q", "--python", python] if uv else [python, "-m", "pip", "install", "-q"]
        subprocess.run([*pip, f"mlflow=={RELEASE}", "psycopg[binary]"], check=True)
        (home / "psycopg").touch()
    return python


def mlflow(folder: Path, database: str = "") -> Running:
    """`mlflow server` with one worker, its jobs off."""
    python = peer_python()
    folder.mkdir(parents=True, exist_ok=True)
    port, began = free_port(), time.monotonic()
    command = [python, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database or f"sqlite:///{folder}/peer.db"]
    command += ["--artifacts-destination", str(folder / "files")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = _spawn(command, folder, **quiet)
    url = f"http://127.0.0.1:{port}"
    return Running("mlflow", url, process, "", _wait(f"{url}/health", process, began), folder)


BARE = """
import json, sqlite3, sys
import uvicorn
db = sqlite3.connect(sys.argv[1], isolation_level=None, check_same_thread=False)
db.execute("PRAGMA journal_mode=WAL"); db.execute("PRAGMA synchronous=NORMAL")
db.execute("CREATE TABLE m (run TEXT, key TEXT, value REAL, time INTEGER, step INTEGER)")
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"2")]
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = (await receive()).get("body") or b"{}"
    if scope["method"] == "POST":
        got = json.loads(body)
        row = (got["run_id"], got["key"], got["value"], got["timestamp"], got["step"])
        db.execute("INSERT INTO m VALUES (?, ?, ?, ?, ?)", row)
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"{}"})
uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False, loop="uvloop", http="httptools",
            lifespan="off", server_header=False, date_header=False)
"""


def bare(folder: Path) -> Running:
    """uvicorn, the JSON parsed, one row into SQLite: nothing checked, nothing else done."""
    return _script("bare handler", BARE, folder / "bare.db")


def _script(name: str, source: str, file: Path) -> Running:
    """A server of a few lines, given its file and its port."""
    file.parent.mkdir(parents=True, exist_ok=True)
    port, began = free_port(), time.monotonic()
    process = _spawn([sys.executable, "-c", source, str(file), str(port)], file.parent)
    url = f"http://127.0.0.1:{port}"
    return Running(name, url, process, "", _wait(url, process, began), file.parent)


COPY = """
import os, socket, sys, threading
def serve(link):
    stream = link.makefile("rb")
    while True:
        first = stream.readline()
        if not first:
            return
        length = 0
        while (line := stream.readline()).strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if first.startswith(b"PUT"):
            with open(sys.argv[1], "wb") as file:
                while length:
                    data = stream.read1(min(length, 1 << 16))
                    file.write(data)
                    length -= len(data)
            link.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n")
        elif os.path.exists(sys.argv[1]):
            with open(sys.argv[1], "rb") as file:
                size = os.path.getsize(sys.argv[1])
                link.sendall(f"HTTP/1.1 200 OK\\r\\ncontent-length: {size}\\r\\n\\r\\n".encode())
                link.sendfile(file)
        else:
            link.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n")
server = socket.create_server(("127.0.0.1", int(sys.argv[2])))
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


def plain_copy(folder: Path) -> Running:
    """A socket whose bytes are copied into a file and, by the kernel, back: no digest, no sync, nothing checked."""
    return _script("plain copy", COPY, folder / "copy.bin")


@contextlib.contextmanager
def postgresql() -> Iterator[Callable[[], str]]:
    """A real PostgreSQL server with its default durability; each call makes a database and returns its URL's rest."""
    with tempfile.TemporaryDirectory(prefix="modelyard-pg-") as name:
        yield from _cluster(Path(name))


def _cluster(folder: Path) -> Iterator[Callable[[], str]]:
    tools = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    if tools is None:
        raise SystemExit("PostgreSQL's server programs are not installed (Debian: apt-get install postgresql).")
    data, port, made = folder / "data", free_port(), 0
    prefix: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        prefix = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres", "postgres")
    quiet: Any = {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/"}
    subprocess.run([*prefix, str(tools / "initdb"), "-D", str(data), "-U", "yard", "-A", "trust"], **quiet)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
    control = [*prefix, str(tools / "pg_ctl"), "-D", str(data), "-w"]
    subprocess.run([*control, "-l", str(folder / "log"), "-o", options, "start"], **quiet)

    def database() -> str:
        nonlocal made
        made += 1
        create = [str(tools / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "yard", f"bench{made}"]
        subprocess.run(create, **quiet)
        return f"yard@127.0.0.1:{port}/bench{made}"

    try:
        yield database
    finally:
        subprocess.run([*control, "-m", "fast", "stop"], **quiet)


@contextlib.contextmanager
def counted_syncs(server: Running) -> Iterator[Callable[[], int]]:
    """While this runs strace counts the syncs of a server; ask for their number after the block."""
    strace = shutil.which("strace")
    if strace is None:
        raise SystemExit("strace is not installed (Debian: apt-get install strace).")
    report = Path(tempfile.mkdtemp()) / "syncs"
    pids = [option for pid in server.pids() for option in ("-p", str(pid))]
    command = [strace, "-f", "-qq", "-e", "trace=fsync,fdatasync,sync_file_range,msync", "-o", str(report), *pids]
    tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not report.exists() or not _traced(server.process.pid):
        time.sleep(0.05)
    try:
        yield lambda: sum("sync(" in line for line in report.read_text().splitlines())
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(20)


def _traced(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return any(line.startswith("TracerPid:") and not line.endswith("\t0") for line in lines)


def call(server: Running, pool: Any, method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body)
    answer = pool.request(
        method, f"{server.url}/api/2.0/mlflow/{path}", body=data, headers=server.headers, timeout=120
    )
    if answer.status != 200:
        raise SystemExit(f"{server.name}: {path} answered {answer.status}: {answer.data[:300]!r}")
    return json.loads(answer.data)
