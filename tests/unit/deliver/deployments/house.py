"""A whole yard for tests: `modelyard up` with people, models whose behaviour a file decides, and traffic."""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelyard.client.api import Client, path
from modelyard.client.hub import ClientHub
from modelyard.deliver.deployments import measuring
from modelyard.domain.errors import ModelyardError, NotFound, Unavailable
from modelyard.kit.processes import descendants
from tests.conftest import wait_until
from tests.ports import free_port
from tests.unit.deliver.models import coded_model

KNOB = '''
"""A model that does what its knob says, a file that is read at every prediction."""

import os
import time


class Knob:
    """Answers `factor` times x. The knob: error (every request), slow (300 ms), die (the process ends)."""

    def __init__(self, knob, factor):
        self.knob, self.factor = knob, factor

    def predict(self, frame):
        try:
            with open(self.knob) as stream:
                said = stream.read().strip()
        except FileNotFoundError:
            said = ""
        if said == "error":
            raise ValueError("the knob says error")
        if said == "die":
            os._exit(9)
        if said == "slow":
            time.sleep(0.3)
        return [float(value) * self.factor for value in list(frame["x"])]
'''
FAST = """
[project]
name = "tests"

[environments.production]
rollout = { strategy = "canary", steps = ["50%"], bake = "2s", min_requests = 10, warm = "10m" }
abort_if = { error_rate = 0.05 }
"""


def knob_model(folder: Path, knob: Path, factor: float, columns: tuple[str, ...] = ("x",)) -> Path:
    """An MLflow folder of a Knob whose signature takes these columns as numbers."""
    coded_model(folder, "knob", KNOB, lambda module: module.Knob(str(knob), factor), columns)
    example = {"dataframe_split": {"columns": list(columns), "data": [[1.0] * len(columns)]}}
    (folder / "serving_input_example.json").write_text(json.dumps(example))
    return folder


@dataclass
class Flow:
    """Requests that go on in threads while a test does something; each is counted by (version, status)."""

    ask: Callable[[], tuple[int, str]]
    threads: int = 2
    pause_s: float = 0.004
    seen: Counter[tuple[str, int]] = field(default_factory=Counter)
    slowest_s: float = 0.0
    _ending: threading.Event = field(default_factory=threading.Event)
    _running: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Flow":
        for _ in range(self.threads):
            thread = threading.Thread(target=self._run, daemon=True)
            thread.start()
            self._running.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._running:
            thread.join(70)

    def _run(self) -> None:
        while not self._ending.is_set():
            started = time.monotonic()
            try:
                status, version = self.ask()
            except OSError as error:
                status, version = 0, type(error).__name__
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)
            self.seen[version, status] += 1
            time.sleep(self.pause_s)

    @property
    def failed(self) -> dict[tuple[str, int], int]:
        return {key: count for key, count in self.seen.items() if key[1] != 200}

    def failed_by(self, version: int) -> int:
        return sum(count for (answered, _), count in self.failed.items() if answered == str(version))

    @property
    def answered(self) -> set[str]:
        return {version for version, status in self.seen if status == 200}

    def total(self) -> int:
        return sum(self.seen.values())


def ask_gateway(
    url: str, token: str, endpoint: str, x: float = 1.0, body: bytes | None = None, **more: str
) -> tuple[int, str]:
    """(status, version that answered) of one prediction, of a column x unless a body is given; `more` are headers."""
    connection = http.client.HTTPConnection(url.partition("://")[2], timeout=150)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"} | more
    try:
        connection.request(
            "POST", f"/endpoints/{endpoint}/invocations", body or json.dumps({"inputs": {"x": [x]}}), headers
        )
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("x-modelyard-version") or ""
    finally:
        connection.close()


def running(pid: int) -> bool:
    """Whether a process runs; one that ended and is not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kernel_says(pid: int) -> str:
    """What keeps a process from ending: its threads with state, kernel function and parent; its children."""
    told: list[str] = []
    for task in sorted(Path(f"/proc/{pid}/task").glob("*")):
        try:
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            told.append(f"thread {task.name}: {fields[0]} in {(task / 'wchan').read_text()}, parent {fields[1]}")
        except OSError:
            continue
    told += [f"child {child}: running {running(child)}" for child in descendants(pid)]
    pressure = [f"{name}: {Path(f'/proc/pressure/{name}').read_text().splitlines()[0]}" for name in ("io", "cpu")]
    return "; ".join([*told, *pressure])


class House:
    """One yard, its processes and its people: ana registers, boris approves, otto operates."""

    def __init__(self, folder: Path, project: str = FAST, model: str = "m") -> None:
        self.project, self.model = folder, model
        self.home = folder / ".modelyard"
        (folder / "modelyard.toml").write_text(project)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("MODELYARD", "MLFLOW"))}
        self.environment |= {"OMP_NUM_THREADS": "1"}
        self.up: subprocess.Popen[bytes] | None = None
        self.tokens: dict[str, str] = {}
        self.count = 0
        self.patience_s = 90.0
        """How long to wait for what should come; slow tests that start many processes give it more."""

    def start(self, *options: str) -> "House":
        command = [sys.executable, "-m", "modelyard", "up", *(options or ("--port", str(free_port())))]
        with (self.project / "up.log").open("ab") as log:
            self.up = subprocess.Popen(command, cwd=self.project, env=self.environment, stdout=log, stderr=log)
        self.wait(lambda: "is up" in (self.project / "up.log").read_text(), "the yard to be up")
        if not self.tokens:
            self.tokens["owner"] = json.loads((self.home / "credentials.json").read_text())["local"]["token"]
            for name, role in (("ana", "ml-engineer"), ("boris", "approver"), ("otto", "mlops")):
                self.client().call("POST", path("principals"), body={"name": name, "roles": [role]})
                made = self.client().call("POST", path("tokens"), body={"principal": name})
                self.tokens[name] = made["token"]
        return self

    def stop(self) -> None:
        if self.up is not None and self.up.poll() is None:
            self.up.terminate()
            try:
                self.up.wait(30)
            except subprocess.TimeoutExpired:
                held = kernel_says(self.up.pid)
                self.up.kill()
                try:
                    self.up.wait(60)
                except subprocess.TimeoutExpired as late:
                    still = kernel_says(self.up.pid)
                    raise AssertionError(f"`up` does not end: 30 s after SIGTERM {held}; then {still}") from late

    def kill_everything(self) -> None:
        """SIGKILL to the supervisor; what it started ends with it."""
        assert self.up is not None
        children = descendants(self.up.pid)
        self.up.kill()
        self.up.wait()
        wait_until(lambda: not any(running(pid) for pid in children), "its processes to end", 60)
        (self.project / "up.log").write_text("")

    def wait(self, condition: Callable[[], Any], what: str, deadline_s: float | None = None) -> Any:
        def checked() -> Any:
            if self.up is not None and self.up.poll() is not None:
                raise AssertionError(f"the yard ended: {(self.project / 'up.log').read_text()}")
            try:
                return condition()
            except (Unavailable, OSError, NotFound):
                return None

        return wait_until(checked, what, deadline_s or self.patience_s)

    # --- processes ---

    def note(self, name: str) -> dict[str, Any]:
        return json.loads((self.home / "run" / f"{name}.json").read_text())

    def pid_of(self, *words: str) -> int | None:
        """The pid of this yard's process whose command line has all these arguments; None while there is none."""
        assert self.up is not None
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                command = (entry / "cmdline").read_bytes().decode().split("\0")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            if parent == self.up.pid and all(word in command for word in words):
                return int(entry.name)
        return None

    def kill_server(self) -> int:
        return self._kill("server", str(self.home))

    def kill_gateway(self, environment: str = "production") -> int:
        return self._kill("modelyard.deliver.serving.gateway", environment)

    def _kill(self, *words: str) -> int:
        pid = self.pid_of(*words)
        assert pid is not None, f"no process {words}"
        os.kill(pid, signal.SIGKILL)
        return pid

    def worker_pid(self, deployment: str, environment: str = "production") -> int | None:
        return measuring.workers(self.home, environment).get(f"w-{deployment[:16]}", {}).get("pid")

    # --- people ---

    def client(self, name: str = "owner") -> Client:
        return Client.connect(self.note("server")["url"], self.tokens[name])

    def command(self, *arguments: str, name: str = "otto", fails: bool = False, heard: bool = False) -> str:
        """What a modelyard command prints; its error text when it is to fail, both when it is to be heard."""
        done = subprocess.run(
            [sys.executable, "-m", "modelyard", *arguments],
            cwd=self.project,
            env={**self.environment, "MODELYARD_TOKEN": self.tokens[name]},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.stderr if fails else done.stdout + done.stderr * heard

    # --- versions ---

    def knob(self, number: int) -> Path:
        return self.project / f"knob-{number}"

    def register(
        self,
        columns: tuple[str, ...] = ("x",),
        factor: float | None = None,
        reference: Any = None,
        edit: Callable[[Path], None] | None = None,
    ) -> int:
        """A version that answers its number times x, or `factor` times x; `reference` is a frame."""
        self.count += 1
        hub = ClientHub(self.client("ana"))
        run = hub.create_run("tests", f"r{self.count}", None, {}, {}, {}, [])  # type: ignore[arg-type]
        with tempfile.TemporaryDirectory() as name:
            made = self.count if factor is None else factor
            folder = knob_model(Path(name) / "model", self.knob(self.count), made, columns)
            if edit is not None:
                edit(folder)
            place = hub.create_logged_model(run.id, "model")
            hub.upload_folder(folder, place.artifact_root)
            evaluation: dict[str, Any] = {"metrics": {"n": 1.0}}
            if reference is not None:
                target = Path(name) / "run" / "reference.parquet"
                target.parent.mkdir()
                reference.to_parquet(target, index=False)
                hub.upload_folder(target.parent, run.artifact_root)
                evaluation["reference"] = f"{run.artifact_root}/reference.parquet"
        body = {"source": f"models:/{place.id}", "run_id": run.id, "model_id": place.id, "evaluation": evaluation}
        number = hub.register_version(self.model, body)["version"]
        assert number == self.count
        return number

    def approve(self, number: int, environment: str = "production") -> None:
        where = path("models", self.model, "versions", number, "decisions")
        body = {"environment": environment, "verdict": "approve", "comment": "tests"}

        def decided() -> bool:
            try:
                self.client("boris").call("POST", where, body=body)
            except ModelyardError as error:
                if "No decision" in str(error):
                    return False
                raise
            return True

        self.wait(decided, f"a request for v{number}")

    def ship(self, **options: Any) -> int:
        """Register and approve a version; its rollout begins by itself."""
        number = self.register(**options)
        self.approve(number)
        return number

    def first(self) -> int:
        """A version that serves all the traffic."""
        number = self.ship()
        self.wait(lambda: self.ask()[1] == str(number), "the first version to answer")
        return number

    # --- what is seen ---

    def ask(
        self, x: float = 1.0, environment: str = "production", token: str = "otto", **more: str
    ) -> tuple[int, str]:
        """(status, version that answered) of one prediction; `more` are headers."""
        url = self.note(f"gateway-{environment}")["url"]
        return ask_gateway(url, self.tokens[token], self.model, x, **more)

    def flow(self, **options: Any) -> Flow:
        return Flow(self.ask, **options)

    def endpoint(self, environment: str = "production") -> dict[str, Any]:
        return self.client().call("GET", path("environments", environment, "endpoints", self.model))

    def events(self, *kinds: str, **data: Any) -> list[dict[str, Any]]:
        """Events of these types whose data holds these values, oldest first."""
        query = {"types": ",".join(kinds), "limit": 500}
        found = self.client().call("GET", path("events"), query=query)["events"]
        return [item for item in found if all(item["data"].get(key) == value for key, value in data.items())]

    def wait_event(self, kind: str, **data: Any) -> dict[str, Any]:
        return self.wait(lambda: self.events(kind, **data), f"{kind} {data}")[-1]

    def steer(self, action: str, name: str = "otto", environment: str = "production") -> Any:
        where = path("environments", environment, "endpoints", self.model, "rollout", action)
        return self.client(name).call("POST", where, body={"reason": "tests"})

    def settled(self, number: int) -> bool:
        """Whether only this version answers, seen on 20 requests."""
        return {self.ask()[1] for _ in range(20)} == {str(number)}
