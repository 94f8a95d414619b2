"""A serving worker on a node of a Ray cluster: an actor that hosts the same process that a supervisor would run.

The actor unpacks the version's files, starts the worker so that it listens at the node's network address, and ends
it. Requests go to the worker directly; Ray is not on their way.
"""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from modelyard.deliver.serving.far import SECRET_BYTES, Address
from modelyard.deliver.serving.spec import WorkerSpec
from modelyard.kit.processes import without_secrets

LOOK_S = 0.05
STOP_S = 35.0
"""A little longer than a worker that was told to stop goes on answering."""
FORGOTTEN_S = 900.0
"""A worker whose keeper was not heard of for this long ends: its gateway is gone for good."""
MOST_LOG = 1 << 16


class Place(NamedTuple):
    """Where a worker runs and listens."""

    node: str
    pid: int
    address: Address


class Ended(NamedTuple):
    """How a worker's process ended, and the last of what it logged."""

    code: int
    log: str


class RayWorker:
    """The actor. `start` may be asked again, by a keeper that took over: it is where it was."""

    def __init__(self, forgotten_s: float = FORGOTTEN_S) -> None:
        self._forgotten_s = forgotten_s
        self._folder = tempfile.TemporaryDirectory(prefix="modelyard-worker-", ignore_cleanup_errors=True)
        self._process: asyncio.subprocess.Process | None = None
        self._place: Place | None = None
        self._heard = time.monotonic()
        self._watching: asyncio.Task[None] | None = None

    async def start(self, told: bytes, files: dict[str, bytes], python: str | None) -> Place | Ended:
        """Run the worker that a spec describes, by `python` or else the node's own; where it listens."""
        if self._place is not None:
            return self._place
        if python is not None and not Path(python).exists():
            words = f"This version's own environment, {python}, is not on the node {os.uname().nodename}."
            return Ended(1, f"{words} Put the yard on a drive that all nodes have, or set libraries = 'shared'.\n")
        spec = self._prepared(msgspec.json.decode(told, type=WorkerSpec), files)
        self._watching = asyncio.ensure_future(self._end_when_forgotten())
        self._process = await self._run(spec, python)
        port = Path(spec.socket)
        while not port.exists():
            if self._process.returncode is not None:
                return await self.wait()
            await asyncio.sleep(LOOK_S)
        address = Address(spec.host, int(port.read_text()), spec.secret)
        self._place = Place(_context().get_node_id(), self._process.pid, address)
        return self._place

    async def wait(self) -> Ended:
        """Until the worker's process ends."""
        assert self._process is not None
        code = await self._process.wait()
        with self._log.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - MOST_LOG))
            return Ended(code, log.read().decode("utf-8", "replace"))

    async def hear(self) -> None:
        """The keeper is there."""
        self._heard = time.monotonic()

    async def stop(self) -> None:
        """Let the worker answer what it has received, then end it."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()

    @property
    def _log(self) -> Path:
        return Path(self._folder.name) / "worker.log"

    def _prepared(self, spec: WorkerSpec, files: dict[str, bytes]) -> WorkerSpec:
        """The spec as it holds on this node, its files written; the worker checks them against their digests."""
        import ray  # late: only cluster nodes have it

        model = Path(self._folder.name) / "model"
        for name, body in files.items():
            target = model / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)
        host: str = ray.util.get_node_ip_address()
        here = {"model_dir": str(model), "socket": str(Path(self._folder.name) / "port")}
        return msgspec.structs.replace(spec, **here, host=host, secret=os.urandom(SECRET_BYTES).hex())

    async def _run(self, spec: WorkerSpec, python: str | None) -> asyncio.subprocess.Process:
        file = Path(self._folder.name) / "spec.json"
        file.write_bytes(msgspec.json.encode(spec))  # the folder is ours alone
        variables = {**without_secrets(), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        if python is not None:
            variables.pop("PYTHONPATH", None)  # it leads to the yard's libraries
        command = [python or sys.executable, "-m", "modelyard.deliver.serving.worker", "--spec", str(file)]
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=variables
            )

    async def _end_when_forgotten(self) -> None:
        while time.monotonic() - self._heard < self._forgotten_s:
            await asyncio.sleep(self._forgotten_s / 30)
        await self.stop()
        os._exit(0)  # nobody else ends an actor that outlives its driver


def _context() -> Any:
    import ray  # late: see above

    return ray.get_runtime_context()
