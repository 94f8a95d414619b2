"""Keeps the workers of one environment running on a Ray cluster; what a supervisor does for local ones.

python -m modelyard.deliver.deployments.ray_keeper --home HOME --environment NAME --cluster NAME --address HOST:PORT

It keeps those that name the cluster. Each worker is an actor that outlives this process: one that takes over finds
them by name. A worker whose process ends is started again after a pause, one whose node is lost at once, on another.
Only the former counts as its death.
"""

import argparse
import asyncio
import contextlib
import hashlib
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.deployments import places, running
from modelyard.deliver.deployments.ray_worker import Ended, Place, RayWorker
from modelyard.deliver.serving import far
from modelyard.kit import ray_cluster
from modelyard.kit.processes import die_with_parent
from modelyard.kit.ray_cluster import ClusterAway

POLL_S = 0.1
HEAR_S = 30.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 15.0
STEADY_S = 10.0
NO_ROOM_S = 20.0
"""How long an actor may wait for a node before it is said."""
logger = logging.getLogger("modelyard.ray")


class FarWorker:
    """One wanted worker. `observed` is what `observed.json` says of it."""

    def __init__(self, ray: Any, namespace: str, spec: dict[str, Any], log: Path) -> None:
        self._ray, self._namespace, self.spec, self._log = ray, namespace, spec, log
        self._actor: Any = None
        self._place: Place | None = None
        self._asked = 0.0
        self._restarts = self._deaths = 0
        self._last_exit: int | None = None
        self.task = asyncio.ensure_future(self._keep())

    @property
    def observed(self) -> dict[str, Any]:
        held: dict[str, Any] = {"pid": self._place.pid if self._place else None, "restarts": self._restarts}
        held |= {"deaths": self._deaths, "last_exit": self._last_exit}
        if self._place is not None:
            held["node"] = self._place.node
        elif self._asked and time.monotonic() - self._asked > NO_ROOM_S:
            asked = f"{self.spec.get('cpus', 1.0):g} CPU"
            asked += f" and {self.spec['memory_mb']} MB" if self.spec.get("memory_mb") else ""
            held["problem"] = f"no node of the Ray cluster took it yet; it asks for {asked}"
        return held

    async def _keep(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            started = time.monotonic()
            ended = await self._live()
            self._withdraw()
            self._place = None
            self._end_actor()
            if ended is None:
                pause = FIRST_PAUSE_S
            else:
                self._restarts, self._deaths, self._last_exit = self._restarts + 1, self._deaths + 1, ended.code
                self._log.parent.mkdir(parents=True, exist_ok=True)
                with self._log.open("a") as log:
                    log.write(ended.log)
            if time.monotonic() - started > STEADY_S:
                pause, self._restarts = FIRST_PAUSE_S, 0
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _live(self) -> Ended | None:
        """One life of the worker; None when its node or its actor was lost."""
        try:
            self._asked = time.monotonic()
            self._actor = self._found()
            files = await asyncio.to_thread(_files, Path(self.spec["model_dir"]), list(self.spec["manifest"]))
            told = await self._actor.start.remote(msgspec.json.encode(self.spec), files, self.spec.get("python"))
            if isinstance(told, Ended):
                return told
            self._place, self._asked = told, 0.0
            far.publish(self.spec["socket"], told.address)
            return await self._actor.wait.remote()
        except self._ray.exceptions.RayError as error:
            logger.warning("worker %s was lost: %s", self.spec["id"], str(error).strip().splitlines()[0])
            return None

    def _found(self) -> Any:
        """The actor of this worker: the one that runs, or a new one on the node with most room."""
        name = f"{self.spec['id']}-{_fingerprint(self.spec)}"
        options: dict[str, Any] = {"name": name, "namespace": self._namespace, "lifetime": "detached"}
        options |= {"num_cpus": self.spec.get("cpus", 1.0), "scheduling_strategy": "SPREAD", "max_concurrency": 16}
        if self.spec.get("memory_mb"):
            options["memory"] = self.spec["memory_mb"] << 20
        return self._ray.remote(RayWorker).options(**options, get_if_exists=True).remote()

    def _end_actor(self) -> None:
        if self._actor is not None:
            with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.kill(self._actor)
            self._actor = None

    @property
    def serves(self) -> bool:
        return self._place is not None

    def _withdraw(self) -> None:
        if self._place is not None:
            far.withdraw(self.spec["socket"], self._place.address)

    def hear(self) -> None:
        if self._place is not None:
            self._actor.hear.remote()

    async def stop(self) -> None:
        """End it once it has answered what it received."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        self._withdraw()
        if self._place is not None:  # else it may wait for a node, and would not hear
            with contextlib.suppress(self._ray.exceptions.RayError):
                await self._actor.stop.remote()
        self._end_actor()


class Keeper:
    """Runs until SIGTERM, and ends its workers then."""

    def __init__(self, ray: Any, home: Path, environment: str, cluster: str, namespace: str) -> None:
        self._ray, self._home, self._cluster, self._namespace = ray, home, cluster, namespace
        self._folder = places.serving(home, environment)
        self._workers: dict[str, FarWorker] = {}
        self._successors: dict[str, FarWorker] = {}
        self._moving: dict[str, FarWorker] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        heard = time.monotonic()
        while not stop.is_set():
            self._reconcile()
            if time.monotonic() - heard > HEAR_S:
                heard = time.monotonic()
                for worker in (*self._workers.values(), *self._moving.values()):
                    worker.hear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await stop.wait()
        left = (*self._workers.values(), *self._successors.values(), *self._moving.values())
        await asyncio.gather(*(worker.stop() for worker in left))

    def _reconcile(self) -> None:
        wanted = running.wanted_at(self._folder, self._cluster)
        if wanted is None:
            return
        for name in [name for name in self._workers if name not in wanted]:
            self._moving[name] = self._workers.pop(name)
            task = self._leaving[name] = asyncio.ensure_future(self._leave(name))
            task.add_done_callback(lambda _, name=name: self._leaving.pop(name, None))
        for name in [name for name, held in self._successors.items() if held.spec != wanted.get(name)]:
            self._end(self._successors.pop(name))
        for name, spec in wanted.items():
            if name in self._workers:
                self._replace_if_changed(name, spec)
            elif name not in self._leaving:
                self._workers[name] = self._start(spec)
        leaving = {name: worker.observed for name, worker in self._moving.items()}
        there = {name: self._observed(name) for name in self._workers}
        running.tell(self._folder, leaving | there, self._cluster)

    def _start(self, spec: dict[str, Any]) -> FarWorker:
        return FarWorker(self._ray, self._namespace, spec, self._home / "logs" / f"worker-{spec['id']}.log")

    def _replace_if_changed(self, name: str, spec: dict[str, Any]) -> None:
        """A worker that is wanted otherwise goes on until its successor serves in its place."""
        successor = self._successors.get(name)
        if successor is None:
            if running.changes(self._workers[name].spec, spec):
                self._successors[name] = self._start(spec)
        elif successor.serves:
            self._end(self._workers[name])
            self._workers[name] = self._successors.pop(name)

    async def _leave(self, name: str) -> None:
        """End a worker; one that moves to this machine or another cluster, once it answers there."""
        await running.taken_over(self._folder, name, self._cluster)
        await self._moving.pop(name).stop()

    def _end(self, worker: FarWorker) -> None:
        name = f"{worker.spec['id']} {id(worker)}"
        task = self._leaving[name] = asyncio.ensure_future(worker.stop())
        task.add_done_callback(lambda _: self._leaving.pop(name, None))

    def _observed(self, name: str) -> dict[str, Any]:
        worker, successor = self._workers[name], self._successors.get(name)
        if successor is None:
            return worker.observed
        why = running.changes(worker.spec, successor.spec)
        return {**worker.observed, "changes": why, "next": successor.observed}


def _files(folder: Path, names: list[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


def _fingerprint(spec: dict[str, Any]) -> str:
    """Of what a worker is given: one that is wanted otherwise is another actor."""
    given = {key: value for key, value in sorted(spec.items()) if key != "least"}
    return hashlib.sha256(msgspec.json.encode(given)).hexdigest()[:8]


def _namespace(home: Path, environment: str) -> str:
    """Of this yard's actors of an environment, apart from those of other yards on the cluster."""
    return f"modelyard-{environment}-{hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]}"


def _tell_away(folder: Path, cluster: str, problem: str) -> None:
    """Say of every worker wanted there that there is no cluster to run it."""
    away = {"pid": None, "restarts": 0, "deaths": 0, "last_exit": None, "problem": problem}
    running.tell(folder, dict.fromkeys(running.wanted_at(folder, cluster) or {}, away), cluster)


def main() -> int:
    parser = argparse.ArgumentParser(description="keep an environment's workers running on Ray")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--environment", required=True)
    parser.add_argument("--cluster", required=True, help="as desired.json names it")
    parser.add_argument("--address", required=True)
    arguments = parser.parse_args()
    die_with_parent(signal.SIGKILL)  # not SIGTERM, which ends the workers too: the next keeper takes them over
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    namespace = _namespace(arguments.home, arguments.environment)
    try:
        ray = ray_cluster.join(arguments.address, namespace=namespace)
    except ClusterAway as away:
        logger.error("%s", away)
        _tell_away(places.serving(arguments.home, arguments.environment), arguments.cluster, str(away))
        return 1
    asyncio.run(Keeper(ray, arguments.home, arguments.environment, arguments.cluster, namespace).run())
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
