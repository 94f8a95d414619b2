"""The controller: compares what the database wants with what runs, and takes one step at a time.

Every step is written to the database before the data plane hears of it, and the files of the data plane are derived
from the database alone; so a crash between any two steps is mended by the next turn. Publishing (who serves, where
requests go) never waits for anything slower than itself: a rollback is a matter of milliseconds.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from modelyard.deliver.deployments import agents, measuring, offline, publishing, rollouts
from modelyard.deliver.deployments.copies import Copies
from modelyard.deliver.deployments.measuring import Traffic
from modelyard.deliver.deployments.progress import Progress
from modelyard.deliver.deployments.records import Endpoint, Rollout
from modelyard.domain.errors import Conflict
from modelyard.domain.project import Project
from modelyard.events.leases import Leases
from modelyard.kit.clock import now_ms
from modelyard.registry import break_glass
from modelyard.store.database import Store
from modelyard.store.objects.port import Objects

TURN_S = 0.25
IDLE_S = 1.0
"""How often an idle yard is looked at: other processes write to its database too."""
logger = logging.getLogger("modelyard.controller")


def _moves(wanted: publishing.Wanted) -> bool:
    """Whether a rollout is under way, or a finished one is still watched."""
    return any(rollout or endpoint.watch for endpoint, rollout in wanted.endpoints)


class Controller:
    """One for a server; `run` goes on until cancelled. Of several, the one with the lease steps rollouts."""

    def __init__(
        self, store: Store, objects: Objects, home: Path, project: Project, leases: Leases | None = None
    ) -> None:
        self._store, self._home, self._project, self._leases = store, home, project, leases
        self._wakes: list[asyncio.Event] = []
        self._copies = Copies(home, objects.fetch, self._wake)
        self._progress = Progress(store, objects, home, project, self._copies)
        self._steps: dict[tuple[str, str], asyncio.Task[None]] = {}
        loop = asyncio.get_running_loop()
        store.on_commit(lambda: loop.call_soon_threadsafe(self._wake))

    async def run(self) -> None:
        loops: list[Awaitable[None]] = [self._repeat(self._expire, 5.0)]
        for environment in self._project.environments:
            loops.append(self._repeat(lambda place=environment: self._keep_published(place), TURN_S))
            loops.append(self._repeat(lambda place=environment: self._advance(place), TURN_S))
        try:
            await asyncio.gather(*loops)
        finally:
            for task in self._steps.values():
                task.cancel()
            await asyncio.gather(*self._steps.values(), return_exceptions=True)
            await self._copies.close()

    async def publish(self, environment: str) -> publishing.Wanted:
        """Bring the data plane's files in line with the database, what was done without us included."""
        await offline.reconcile(self._store, self._project, self._home, environment)
        since = offline.turns(self._home, environment)
        wanted = await self._store.read(lambda conn: publishing.read(conn, environment, self._project))
        for deployment in wanted.placement.deployments.values():
            self._copies.want(environment, deployment, wanted.placement.serving(deployment).libraries)
        ready = partial(self._copies.ready, environment)
        if not await asyncio.to_thread(offline.publish, self._home, wanted.placement, ready, since):
            self._wake()
        return wanted

    async def _keep_published(self, environment: str) -> bool:
        """Publish; whether something is under way."""
        return _moves(await self.publish(environment))

    async def turn(self, environment: str) -> None:
        """Publish, and take every rollout of one environment a step further."""
        await self.publish(environment)
        await self._advance(environment)
        await asyncio.gather(*self._steps.values())

    async def _advance(self, environment: str) -> bool:
        """Start the next step of every endpoint that has none under way; a slow one holds up no other.

        Whether something is under way.
        """
        wanted = await self._store.read(lambda conn: publishing.read(conn, environment, self._project))
        if self._leases is not None and wanted.endpoints and not await self._leases.hold(f"rollouts/{environment}"):
            return False
        busy = _moves(wanted)
        traffic = await self._measured(environment) if busy else Traffic(None)
        for endpoint, rollout in wanted.endpoints:
            key = (environment, endpoint.name)
            if key not in self._steps:
                task = self._steps[key] = asyncio.ensure_future(self._step(wanted, endpoint, rollout, traffic))
                task.add_done_callback(lambda _, key=key: self._steps.pop(key, None))
        return busy

    async def _measured(self, environment: str) -> Traffic:
        far = await self._store.read(lambda conn: agents.counted(conn, environment))
        return await measuring.read_traffic(self._home, environment, far)

    async def _step(
        self, wanted: publishing.Wanted, endpoint: Endpoint, rollout: Rollout | None, traffic: Traffic
    ) -> None:
        try:
            if endpoint.warm_until is not None and endpoint.warm_until < now_ms():
                await self._store.write(lambda conn: rollouts.retire_cold(conn, endpoint))
            elif rollout is None:
                await self._progress.watch(endpoint, traffic)
            if rollout is not None:
                target = wanted.deployments[rollout.to_deployment]
                await self._progress.advance(endpoint, rollout, target, traffic)
        except Conflict as moved_on:
            logger.info("%s: %s", endpoint.subject, moved_on)
        except Exception:  # a task's outermost frame: the next turn tries again
            logger.exception("a step of %s failed; it is tried again", endpoint.subject)

    async def _expire(self) -> bool:
        if await self._store.read(break_glass.any_over):
            await self._store.write(lambda conn: break_glass.expire(conn, self._project))
        return False

    async def _repeat(self, turn: Callable[[], Awaitable[bool]], pause_s: float) -> None:
        """Take turns: after each commit, every `pause_s` while something is under way, else at least every IDLE_S."""
        wake = asyncio.Event()
        self._wakes.append(wake)
        while True:
            busy = True
            try:
                busy = await turn()
            except Exception:  # a loop's outermost frame: the next turn tries again
                logger.exception("a turn failed; it is tried again")
            try:
                async with asyncio.timeout(pause_s if busy else max(pause_s, IDLE_S)):
                    await wake.wait()
            except TimeoutError:
                pass
            wake.clear()

    def _wake(self) -> None:
        for wake in self._wakes:
            wake.set()
