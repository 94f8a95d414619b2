"""The supervisor: keeps the server, the gateways and the workers running. It needs no database."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.deployments import places, running
from modelyard.deliver.deployments.tls import TlsFiles
from modelyard.deliver.serving.routing import RoutingFile
from modelyard.kit.files import atomic_write
from modelyard.kit.listening import Listening
from modelyard.kit.processes import die_with_parent, without_secrets

SERVER = "server"
POLL_S = 0.1
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 15.0
STEADY_S = 10.0
"""A process that ran this long is taken as well again: its next pause is short."""
STOP_S = 10.0
FLAPS = 3
"""A gateway that ended so often at once has its callers refused: they would wait for nothing."""


@dataclass(frozen=True)
class GatewaySpec:
    """`hosts`: names by which clients may address it, beside those of this machine; the first is shown. ray: the
    cluster that runs its workers, `auto` for this machine's; None where they are processes beside it.
    """

    environment: str
    host: str
    port: int
    tls: TlsFiles | None = None
    hosts: tuple[str, ...] = ()
    grpc_port: int = 0
    ray: str | None = None

    @property
    def url(self) -> str:
        name = self.hosts[0] if self.hosts else self.host
        return f"{'https' if self.tls else 'http'}://{f'[{name}]' if ':' in name else name}:{self.port}"


@dataclass
class Child:
    """A process that is kept running; `listening`: the socket that it accepts at, held while it starts again."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    listening: Listening | None = None
    restarts: int = 0
    deaths: int = 0
    started_at: float = 0.0
    last_exit: int | None = None
    process: "asyncio.subprocess.Process | None" = None
    task: "asyncio.Task[None] | None" = None

    async def keep(self) -> None:
        """Run the process again and again: at once after a steady run, pausing longer while it fails at once."""
        pause = FIRST_PAUSE_S
        self.log.parent.mkdir(parents=True, exist_ok=True)
        while True:
            inherited = self._inherited()
            with self.log.open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    *self.command,
                    *(argument for number in inherited for argument in ("--listen-fd", str(number))),
                    pass_fds=inherited,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=dict(self.environment),
                    preexec_fn=die_with_parent,
                    start_new_session=True,
                )
            self.started_at = time.monotonic()
            self.last_exit = await self.process.wait()
            self.restarts += 1
            self.deaths += 1
            if time.monotonic() - self.started_at > STEADY_S:
                pause, self.restarts = 0.0, 0
            elif self.listening is not None and self.restarts >= FLAPS:
                self.listening.close()
            await asyncio.sleep(pause)
            pause = min(max(pause * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)

    def _inherited(self) -> tuple[int, ...]:
        """The descriptor of the socket to accept at; none where the process has to make its own, and says why not."""
        try:
            return () if self.listening is None else (self.listening.descriptor(),)
        except OSError:
            return ()

    async def stop(self) -> None:
        """End the process: politely, then not."""
        if self.listening is not None:
            self.listening.close()
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
        if self.process is None or self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await self.process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


@dataclass
class Supervisor:
    """Runs until SIGTERM, SIGINT or `stop`; everything that it started ends with it."""

    home: Path
    server_command: list[str] | None
    gateways: list[GatewaySpec]
    _porters: dict[str, Child] = field(default_factory=dict[str, Child])
    _routings: dict[str, RoutingFile] = field(default_factory=dict[str, RoutingFile])
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _fixed: list[Child] = field(default_factory=list[Child])
    _workers: dict[tuple[str, str], Child] = field(default_factory=dict[tuple[str, str], Child])
    _stopping: dict[tuple[str, str], "asyncio.Task[None]"] = field(
        default_factory=dict[tuple[str, str], "asyncio.Task[None]"]
    )

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._start_fixed()
        try:
            while not self._stop.is_set():
                for gateway in self.gateways:
                    if gateway.ray is None:
                        self._reconcile(gateway.environment)
                    await self._reconcile_porter(gateway.environment)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._stop.wait()
        finally:
            await self._stop_all()

    def stop(self) -> None:
        self._stop.set()

    @property
    def server_ended(self) -> bool:
        """Whether the server ended at least once since we started it."""
        return any(child.deaths for child in self._fixed if child.name == SERVER)

    def _start_fixed(self) -> None:
        if self.server_command is not None:
            self._fixed.append(self._child(SERVER, self.server_command, os.environ))
        for spec in self.gateways:
            folder = places.serving(self.home, spec.environment)
            folder.mkdir(parents=True, exist_ok=True)
            command = [
                *(sys.executable, "-m", "modelyard.deliver.serving.gateway", "--environment", spec.environment),
                *("--folder", str(folder), "--host", spec.host, "--port", str(spec.port)),
                *("--admin-socket", str(places.admin_socket(self.home, spec.environment))),
                *(spec.tls.arguments() if spec.tls else ()),
                *(argument for name in spec.hosts for argument in ("--allow-host", name)),
                *(("--grpc-port", str(spec.grpc_port)) if spec.grpc_port else ()),
            ]
            listening = Listening(spec.host, spec.port)
            name = f"gateway-{spec.environment}"
            self._fixed.append(self._child(name, command, without_secrets(), listening))
            if spec.ray is not None:
                keeper = [sys.executable, "-m", "modelyard.deliver.deployments.ray_keeper"]
                keeper += ["--home", str(self.home), "--environment", spec.environment, "--address", spec.ray]
                self._fixed.append(self._child(f"workers-{spec.environment}", keeper, without_secrets()))
            note = {"url": spec.url, "pid": os.getpid()}
            atomic_write(
                self.home / "run" / f"gateway-{spec.environment}.json", msgspec.json.encode(note), durable=False
            )

    def _child(
        self, name: str, command: list[str], environment: Mapping[str, str], listening: Listening | None = None
    ) -> Child:
        child = Child(name, command, environment, self.home / "logs" / f"{name}.log", listening)
        child.task = asyncio.ensure_future(child.keep())
        return child

    def _reconcile(self, environment: str) -> None:
        """Start the workers that are wanted, stop those that no longer are, and say what runs."""
        folder = places.serving(self.home, environment)
        named = running.wanted(folder)
        if named is None:
            return
        for (place, worker_id), child in list(self._workers.items()):
            spec = named.get(worker_id)
            if place == environment and (spec is None or child.command[0] != _python(spec)):
                del self._workers[place, worker_id]
                task = asyncio.ensure_future(child.stop())
                self._stopping[place, worker_id] = task
                task.add_done_callback(lambda _, key=(place, worker_id): self._stopping.pop(key, None))
        for worker_id, spec in named.items():
            key = (environment, worker_id)
            if key in self._workers or key in self._stopping:  # who ends removes its socket: nobody listens there yet
                continue
            file = folder / "workers" / f"{worker_id}.json"
            atomic_write(file, msgspec.json.encode(spec), mode=0o600, durable=False)
            command = [_python(spec), "-m", "modelyard.deliver.serving.worker", "--spec", str(file)]
            quiet = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            variables = {**without_secrets(), **quiet}
            if spec.get("python"):
                variables.pop("PYTHONPATH", None)  # it leads to the yard's libraries
            child = self._child(f"worker-{worker_id}", command, variables)
            self._workers[environment, worker_id] = child
        self._report(environment, folder)

    async def _reconcile_porter(self, environment: str) -> None:
        """Run a porter while the routing names one: of all that serves, it alone has object stores' credentials."""
        folder = places.serving(self.home, environment)
        file = self._routings.setdefault(environment, RoutingFile(folder / "routing.json"))
        if not file.refresh() or file.current is None:
            return
        running, wanted = self._porters.get(environment), file.current.porter
        if running is not None and not wanted:
            await self._porters.pop(environment).stop()
        elif running is None and wanted:
            command = [sys.executable, "-m", "modelyard.deliver.deployments.porter"]
            command += ["--folder", str(folder), "--socket", wanted]
            credentials = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
            self._porters[environment] = self._child(
                f"porter-{environment}", command, {**without_secrets(), **credentials}
            )

    def _report(self, environment: str, folder: Path) -> None:
        workers: dict[str, Any] = {
            worker_id: {
                "pid": child.process.pid if child.process and child.process.returncode is None else None,
                "restarts": child.restarts,
                "deaths": child.deaths,
                "last_exit": child.last_exit,
            }
            for (place, worker_id), child in self._workers.items()
            if place == environment
        }
        running.tell(folder, workers)

    async def _stop_all(self) -> None:
        """Workers last, so that the gateways can finish their answers."""
        await asyncio.gather(*(child.stop() for child in (*self._fixed, *self._porters.values())))
        await asyncio.gather(*(child.stop() for child in self._workers.values()), *self._stopping.values())
        for spec in self.gateways:
            (self.home / "run" / f"gateway-{spec.environment}.json").unlink(missing_ok=True)


def _python(spec: Mapping[str, Any]) -> str:
    """The interpreter that a worker runs in: its version's own, or ours."""
    return spec.get("python") or sys.executable
