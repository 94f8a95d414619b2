"""The supervisor: keeps the server, the gateways and the workers running. It needs no database."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from modelyard.deliver.deployments import places, running
from modelyard.deliver.deployments.child import Child
from modelyard.deliver.deployments.local_workers import LocalWorkers
from modelyard.deliver.serving.routing import MOST_DRAIN_S, RoutingFile
from modelyard.deliver.serving.tls import TlsFiles
from modelyard.kit.files import atomic_write
from modelyard.kit.listening import Listening
from modelyard.kit.processes import without_secrets

SERVER = "server"
POLL_S = 0.1
RELOAD = signal.SIGUSR1
"""Not SIGHUP: a yard ends with the terminal that it was started in."""
GATEWAY_PAUSE_S, GATEWAY_STOP_S = 1.0, MOST_DRAIN_S + 5.0
"""A gateway is started again sooner than others, for without it nobody is answered; it ends once it has answered."""


@dataclass(frozen=True)
class GatewaySpec:
    """`hosts`: names by which clients may address it, beside those of this machine; the first is shown."""

    environment: str
    host: str
    port: int
    tls: TlsFiles | None = None
    hosts: tuple[str, ...] = ()
    grpc_port: int = 0

    @property
    def url(self) -> str:
        name = self.hosts[0] if self.hosts else self.host
        return f"{'https' if self.tls else 'http'}://{f'[{name}]' if ':' in name else name}:{self.port}"


@dataclass
class Supervisor:
    """Runs until SIGTERM, SIGINT or `stop`; everything that it started ends with it.

    At RELOAD the server begins anew, and so reads the project file; what serves goes on.
    """

    home: Path
    server_command: list[str] | None
    gateways: list[GatewaySpec]
    _porters: dict[str, Child] = field(default_factory=dict[str, Child])
    _routings: dict[str, RoutingFile] = field(default_factory=dict[str, RoutingFile])
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _fixed: list[Child] = field(default_factory=list[Child])
    _workers: list[LocalWorkers] = field(default_factory=list[LocalWorkers])
    _keepers: dict[tuple[str, str], Child] = field(default_factory=dict[tuple[str, str], Child])
    _leaving: "set[asyncio.Task[None]]" = field(default_factory=set["asyncio.Task[None]"])

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(RELOAD, self._reload)
        self._start_fixed()
        try:
            while not self._stop.is_set():
                for workers in self._workers:
                    workers.reconcile()
                for gateway in self.gateways:
                    self._reconcile_keepers(gateway.environment)
                    await self._reconcile_porter(gateway.environment)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._stop.wait()
        finally:
            await self._stop_all()

    def stop(self) -> None:
        self._stop.set()

    def _reload(self) -> None:
        for child in self._fixed:
            if child.name == SERVER:
                child.begin_anew()

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
            gateway = self._child(name, command, without_secrets(), listening)
            gateway.longest_pause_s, gateway.stop_s = GATEWAY_PAUSE_S, GATEWAY_STOP_S
            self._fixed.append(gateway)
            self._workers.append(LocalWorkers(self.home, spec.environment))
            note = {"url": spec.url, "pid": os.getpid(), "reloads": True}
            atomic_write(
                self.home / "run" / f"gateway-{spec.environment}.json", msgspec.json.encode(note), durable=False
            )

    def _child(
        self, name: str, command: list[str], environment: Mapping[str, str], listening: Listening | None = None
    ) -> Child:
        return Child(name, command, environment, self.home / "logs" / f"{name}.log", listening).start()

    def _reconcile_keepers(self, environment: str) -> None:
        """Run a keeper for each Ray cluster that workers are wanted at, until none is left there."""
        folder = places.serving(self.home, environment)
        specs = running.wanted(folder)
        if specs is None:
            return
        clusters = {spec["ray"] for spec in specs.values() if spec.get("ray") is not None}
        for cluster in clusters:
            if (environment, cluster) not in self._keepers:
                address = cluster or os.environ.get("RAY_ADDRESS") or "auto"
                command = [sys.executable, "-m", "modelyard.deliver.deployments.ray_keeper", "--home", str(self.home)]
                command += ["--environment", environment, "--cluster", cluster, "--address", address]
                name = f"workers-{environment}"
                self._keepers[environment, cluster] = self._child(name, command, without_secrets())
        for place, cluster in list(self._keepers):
            if place == environment and cluster not in clusters and not running.told(folder, cluster):
                self._end(self._keepers.pop((place, cluster)))

    def _end(self, child: Child) -> None:
        task = asyncio.ensure_future(child.stop())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _reconcile_porter(self, environment: str) -> None:
        """Run a porter while the routing names one: of all that serves, it alone has object stores' credentials."""
        folder = places.serving(self.home, environment)
        file = self._routings.setdefault(environment, RoutingFile(folder / "routing.json"))
        if not file.refresh() or file.current is None:
            return
        porter, wanted = self._porters.get(environment), file.current.porter
        if porter is not None and not wanted:
            await self._porters.pop(environment).stop()
        elif porter is None and wanted:
            command = [sys.executable, "-m", "modelyard.deliver.deployments.porter"]
            command += ["--folder", str(folder), "--socket", wanted]
            credentials = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
            self._porters[environment] = self._child(
                f"porter-{environment}", command, {**without_secrets(), **credentials}
            )

    async def _stop_all(self) -> None:
        """Workers last, so that the gateways can finish their answers."""
        others = (*self._porters.values(), *self._keepers.values())
        await asyncio.gather(*(child.stop() for child in (*self._fixed, *others)), *self._leaving)
        await asyncio.gather(*(workers.stop() for workers in self._workers))
        for spec in self.gateways:
            (self.home / "run" / f"gateway-{spec.environment}.json").unlink(missing_ok=True)
