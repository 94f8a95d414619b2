"""The page works as it is written, for somebody new: a fresh folder and environment, XGBoost, only its commands."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.docs.terminal import ROOT, Terminal, blocks
from tests.ports import free_port
from tests.unit.deliver.deployments.house import ask_gateway

PAGE = "how-to/put-a-model-in-production.md"
FAST = {
    'bake = "10m"': 'bake = "5s"',
    "min_requests = 200": "min_requests = 5",
    "latency_times_champion = 2.0": "latency_p95_ms = 5000",  # a test machine is no place for the page's bound
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path, tmp_path / "credit" / ".venv" / "bin", "BORIS|MLFLOW|TOKEN")
    yield opened
    opened.close()


class Callers:
    """Somebody who asks production all the time; counts (status, version)."""

    def __init__(self, folder: Path, token: str) -> None:
        self._folder, self._token = folder, token
        self.seen: list[tuple[int, str]] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Callers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(60)

    def _run(self) -> None:
        note = json.loads((self._folder / ".modelyard" / "run" / "gateway-production.json").read_text())
        body = (self._folder / "request.json").read_bytes()
        while not self._ending.wait(0.02):
            self.seen.append(ask_gateway(note["url"], self._token, "credit-risk", body=body))


def installed(folder: Path, block: str) -> None:
    """The page's installation, of this checkout, from what is known to work."""
    assert "pip install 'modelyard[build,serve]' scikit-learn xgboost" in block
    python = folder / ".venv" / "bin" / "python"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "-q", str(folder / ".venv"), "--python", sys.executable], check=True)
    wanted = [f"{ROOT}[build,serve]", "scikit-learn", "xgboost-cpu"]  # the same library without the GPU's gigabytes
    options = ["-q", "--python", str(python), "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*uv, "pip", "install", *options, *wanted], check=True)


def test_the_page(terminal: Terminal) -> None:
    *first, caller, ask, canary, watch, worse, ready, back = blocks(PAGE)
    install, up, register, versions, approve, endpoints, predict = first
    folder = terminal.folder / "credit"
    folder.mkdir()
    installed(folder, install)
    terminal.must("cd credit")
    (toml,), (train,) = blocks(PAGE, "toml"), blocks(PAGE, "python")
    for slow, fast in FAST.items():
        assert slow in toml
        toml = toml.replace(slow, fast)
    (folder / "modelyard.toml").write_text(toml)
    (folder / "train.py").write_text(train)
    port = free_port()
    terminal.environment["MODELYARD_PORT"] = str(port)
    terminal.start(f"{folder}/.venv/bin/{up.strip()}", folder)
    wait_until(lambda: "Stop with Ctrl-C" in terminal.said(), "the yard to be up", 180)

    def follow(block: str) -> str:
        return terminal.must(block.replace("127.0.0.1:8600", f"127.0.0.1:{port}").replace("8602", str(port + 2)))

    def approved(block: str) -> None:
        """Approve once the decision is asked for."""
        wait_until(lambda: terminal.run(block).returncode == 0, block, 180)

    def serves(block: str, number: int) -> None:
        """Wait until the page's command shows it; else say what that shows."""
        shown = [""]

        def there() -> bool:
            shown[0] = follow(block)
            return any(line.split()[:2] == ["production/credit-risk", f"v{number}"] for line in shown[0].splitlines())

        try:
            wait_until(there, f"v{number} in production", 240)
        except AssertionError as late:
            raise AssertionError(f"{late}:\n{shown[0]}") from late

    follow(register)
    assert "1" in follow(versions)
    approved(approve)
    serves(endpoints, 1)
    assert '"predictions"' in follow(predict)
    follow(caller)
    wait_until(lambda: "x-modelyard-version: 1" in follow(ask), "the gateway to know the token", 30)

    token = terminal.must("echo $TOKEN").strip()
    retrain, approve_two = canary.strip().splitlines()
    follow(retrain)
    approved(approve_two)
    with Callers(folder, token) as callers:
        wait_until(lambda: callers.seen and {"1", "2"} <= {v for _, v in callers.seen}, "both to answer", 240)
        serves(watch, 2)
    assert {status for status, _ in callers.seen} == {200}

    retrain, approve_three, look = worse.strip().splitlines()
    follow(retrain)
    approved(approve_three)
    refused = "waits until v3 serves in staging, where its rollout was aborted: callers would break: column 'f8'"
    wait_until(lambda: refused in follow(look), "staging to refuse v3", 240)
    in_staging, _ = ready.strip().splitlines()
    follow(in_staging)
    aborted = f"{watch.split()[0]} audit --types rollout.aborted"
    wait_until(lambda: "endpoint/production/" in follow(aborted), "production to want a word of its own", 240)

    with Callers(folder, token) as callers:
        assert "all traffic goes to v1" in follow(back)
        wait_until(lambda: callers.seen[-5:] == [(200, "1")] * 5, "v1 to answer", 30)
    assert {status for status, _ in callers.seen} == {200}
