"""The workers of one environment that run as processes of this machine."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.deployments import places, running
from modelyard.deliver.deployments.child import Child
from modelyard.deliver.serving import probe
from modelyard.kit.files import atomic_write
from modelyard.kit.ids import new_id
from modelyard.kit.processes import without_secrets

LOOK_S = 0.1
CLUSTER_ONLY = ("cpus",)
"""What a worker is told that means nothing to a process beside the gateway."""
Spec = dict[str, Any]


@dataclass
class Worker:
    spec: Spec
    child: Child


@dataclass
class Successor:
    """A worker that is to take another's place: it runs as that is wanted by now."""

    name: str
    worker: Worker
    why: list[str]
    task: "asyncio.Task[None]"


class LocalWorkers:
    """Started and stopped as `desired.json` says; one that is wanted otherwise is replaced by one that answers."""

    def __init__(self, home: Path, environment: str) -> None:
        self._home, self._folder = home, places.serving(home, environment)
        self._held: dict[str, Worker] = {}
        self._stopping: dict[str, asyncio.Task[None]] = {}
        self._successor: Successor | None = None
        self._replacing: set[asyncio.Task[None]] = set()
        self._ending = asyncio.Event()

    def reconcile(self) -> None:
        """Take one step towards what is wanted, and say what runs."""
        wanted = running.wanted_at(self._folder, None)
        if wanted is None:
            return
        self._forget_successor(wanted)
        for name in [name for name in self._held if name not in wanted]:
            task = self._stopping[name] = asyncio.ensure_future(self._leave(name, self._held.pop(name).child))
            task.add_done_callback(lambda _, name=name: self._stopping.pop(name, None))
        for name, spec in wanted.items():
            if name in self._held:
                self._replace_if_changed(name, spec)
            elif name not in self._stopping:  # who ends removes its socket: nobody listens there yet
                self._held[name] = self._start(spec, spec["socket"])
        running.tell(self._folder, {name: self._observed(name) for name in self._held})

    async def stop(self) -> None:
        self._ending.set()
        self._forget_successor({})
        going = (*self._stopping.values(), *self._replacing)
        await asyncio.gather(*(worker.child.stop() for worker in self._held.values()), *going)

    async def _leave(self, name: str, child: Child) -> None:
        """End a worker; one that moves to a cluster, once it answers there."""
        moved = asyncio.ensure_future(running.taken_over(self._folder, name, None))
        ending = asyncio.ensure_future(self._ending.wait())
        await asyncio.wait({moved, ending}, return_when=asyncio.FIRST_COMPLETED)
        moved.cancel()
        ending.cancel()
        await child.stop()

    def _forget_successor(self, wanted: dict[str, Spec]) -> None:
        """Give up a successor that is wanted no more, or otherwise."""
        held = self._successor
        if held is not None and held.worker.spec != wanted.get(held.name):
            held.task.cancel()
            self._successor = None

    def _replace_if_changed(self, name: str, spec: Spec) -> None:
        """One at a time: each is loaded beside the one that it follows."""
        why = running.changes(self._held[name].spec, spec, CLUSTER_ONLY)
        if why and self._successor is None:
            worker = self._start(spec, _beside(spec))
            task = asyncio.ensure_future(self._replace(name, worker))
            self._replacing.add(task)
            task.add_done_callback(self._replacing.discard)
            self._successor = Successor(name, worker, why, task)

    async def _replace(self, name: str, successor: Worker) -> None:
        """Put a successor in a worker's place once it answers; until then that one goes on."""
        try:
            while await probe.ask(_beside(successor.spec)) is None or not _moved(successor.spec):
                await asyncio.sleep(LOOK_S)
        except asyncio.CancelledError:
            await successor.child.stop()
            return
        self._write(successor.spec, successor.spec["socket"], successor.child)  # where its next life listens
        before, self._held[name], self._successor = self._held[name], successor, None
        await before.child.stop()
        Path(before.child.command[-1]).unlink(missing_ok=True)

    def _start(self, spec: Spec, socket: str) -> Worker:
        file = self._folder / "workers" / f"{spec['id']}-{new_id()[:8]}.json"
        python: str | None = spec.get("python")
        command = [python or sys.executable, "-m", "modelyard.deliver.serving.worker", "--spec", str(file)]
        variables = {**without_secrets(), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        if python is not None:
            variables.pop("PYTHONPATH", None)  # it leads to the yard's libraries
        child = Child(f"worker-{spec['id']}", command, variables, self._home / "logs" / f"worker-{spec['id']}.log")
        self._write(spec, socket, child)
        return Worker(spec, child.start())

    def _write(self, spec: Spec, socket: str, child: Child) -> None:
        told = msgspec.json.encode({**spec, "socket": socket})
        atomic_write(Path(child.command[-1]), told, mode=0o600, durable=False)

    def _observed(self, name: str) -> dict[str, Any]:
        told, coming = _told(self._held[name].child), self._successor
        if coming is None or coming.name != name:
            return told
        return {**told, "changes": coming.why, "next": _told(coming.worker.child)}


def _beside(spec: Spec) -> str:
    """Where a worker listens until it takes its place."""
    return f"{spec['socket']}.next"


def _moved(spec: Spec) -> bool:
    """Whether a worker has its place now; not where it ended in this very moment."""
    try:
        os.rename(_beside(spec), spec["socket"])
    except FileNotFoundError:
        return False
    return True


def _told(child: Child) -> dict[str, Any]:
    return {"pid": child.pid, "restarts": child.restarts, "deaths": child.deaths, "last_exit": child.last_exit}
