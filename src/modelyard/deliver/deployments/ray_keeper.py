"""Keeps the workers of one environment running on a Ray cluster; what a supervisor does for local ones.

python -m modelyard.deliver.deployments.ray_keeper --home HOME --environment NAME --address HOST:PORT

Each worker is an actor that outlives this process: one that takes over finds them by name. A worker whose process
ends is started again after a pause, one whose node is lost at once, on another. Only the former counts as its death.
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
            far.withdraw(self.spec["socket"])
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
        options: dict[str, Any] = {"name": self.spec["id"], "namespace": self._namespace, "lifetime": "detached"}
        options |= {"num_cpus": self.spec.get("cpus", 1.0), "scheduling_strategy": "SPREAD", "max_concurrency": 16}
        if self.spec.get("memory_mb"):
            options["memory"] = self.spec["memory_mb"] << 20
        return self._ray.remote(RayWorker).options(**options, get_if_exists=True).remote()

    def _end_actor(self) -> None:
        if self._actor is not None:
            with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.kill(self._actor)
            self._actor = None

    def hear(self) -> None:
        if self._place is not None:
            self._actor.hear.remote()

    async def stop(self) -> None:
        """End it once it has answered what it received."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        far.withdraw(self.spec["socket"])
        if self._place is not None:  # else it may wait for a node, and would not hear
            with contextlib.suppress(self._ray.exceptions.RayError):
                await self._actor.stop.remote()
        self._end_actor()


class Keeper:
    """Runs until SIGTERM, and ends its workers then."""

    def __init__(self, ray: Any, home: Path, environment: str, namespace: str) -> None:
        self._ray, self._home, self._namespace = ray, home, namespace
        self._folder = places.serving(home, environment)
        self._workers: dict[str, FarWorker] = {}
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
                for worker in self._workers.values():
                    worker.hear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await stop.wait()
        await asyncio.gather(*(worker.stop() for worker in self._workers.values()), *self._leaving.values())

    def _reconcile(self) -> None:
        wanted = running.wanted(self._folder)
        if wanted is None:
            return
        for name in [name for name in self._workers if name not in wanted]:
            task = self._leaving[name] = asyncio.ensure_future(self._workers.pop(name).stop())
            task.add_done_callback(lambda _, name=name: self._leaving.pop(name, None))
        for name, spec in wanted.items():
            if name not in self._workers and name not in self._leaving:
                log = self._home / "logs" / f"worker-{name}.log"
                self._workers[name] = FarWorker(self._ray, self._namespace, spec, log)
        running.tell(self._folder, {name: worker.observed for name, worker in self._workers.items()})


def _files(folder: Path, names: list[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


def _namespace(home: Path, environment: str) -> str:
    """Of this yard's actors of an environment, apart from those of other yards on the cluster."""
    return f"modelyard-{environment}-{hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]}"


def _tell_away(folder: Path, problem: str) -> None:
    """Say of every wanted worker that there is no cluster to run it."""
    away = {"pid": None, "restarts": 0, "deaths": 0, "last_exit": None, "problem": problem}
    running.tell(folder, dict.fromkeys(running.wanted(folder) or {}, away))


def main() -> int:
    parser = argparse.ArgumentParser(description="keep an environment's workers running on Ray")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--environment", required=True)
    parser.add_argument("--address", required=True)
    arguments = parser.parse_args()
    die_with_parent(signal.SIGKILL)  # not SIGTERM, which ends the workers too: the next keeper takes them over
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    namespace = _namespace(arguments.home, arguments.environment)
    try:
        ray = ray_cluster.join(arguments.address, namespace=namespace)
    except ClusterAway as away:
        logger.error("%s", away)
        _tell_away(places.serving(arguments.home, arguments.environment), str(away))
        return 1
    asyncio.run(Keeper(ray, arguments.home, arguments.environment, namespace).run())
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
