"""The server's loops: subscribers after each commit, schedules, and jobs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from modelyard.events import jobs
from modelyard.events.jobs import Job
from modelyard.server.yard import Yard

JobHandler = Callable[[Yard, Job], Awaitable[None]]
TICK_S = 1.0
PIPELINES = frozenset({"pipeline", "start", "commit"})
"""The kinds of job that run pipelines, of which one server runs `server.pipelines_at_once`."""
logger = logging.getLogger("modelyard.loops")


@dataclass(frozen=True)
class Timer:
    """due: whether there is something to do, asked on a reading connection; act: does it, in one transaction."""

    due: Callable[[Connection], bool]
    act: Callable[[Connection], object]


class Loops:
    """Runs until cancelled. Woken by commits; a tick also sees what other processes wrote."""

    def __init__(self, yard: Yard, handlers: dict[str, JobHandler], timers: Sequence[Timer] = ()) -> None:
        """timers: what is asked and done at each turn."""
        self._yard = yard
        self._timers = timers
        self._handlers = handlers
        self._wake = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._took_over = False
        loop = asyncio.get_running_loop()
        yard.store.on_commit(lambda: loop.call_soon_threadsafe(self._wake.set))

    async def run(self) -> None:
        try:
            while True:
                await self._turn()
                try:
                    async with asyncio.timeout(TICK_S):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _turn(self) -> None:
        try:
            if not self._took_over:
                await self._yard.store.write(jobs.release_orphans)
                self._took_over = True
            await dispatch(self._yard)
            for timer in self._timers:
                if await self._yard.store.read(timer.due):
                    await self._yard.store.write(timer.act)
            await self._start_jobs()
        except Exception:  # the loop of last resort: one bad turn must not end the platform's work
            logger.exception("a turn of the loops failed; it is tried again")

    async def _start_jobs(self) -> None:
        while True:
            kinds = self._kinds()
            if not await self._yard.store.read(lambda conn, kinds=kinds: jobs.any_due(conn, kinds)):
                return
            job = await self._yard.store.write(lambda conn, kinds=kinds: jobs.claim(conn, kinds))
            if job is None:
                return
            task = asyncio.create_task(self._run_job(job), name=job.kind)
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _kinds(self) -> list[str]:
        """The kinds of job that this server may take now: no further pipeline beyond its limit."""
        busy = sum(task.get_name() in PIPELINES for task in self._running)
        full = busy >= self._yard.project.server.pipelines_at_once
        return [kind for kind in self._handlers if not (full and kind in PIPELINES)]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wake.set()

    async def _run_job(self, job: Job) -> None:
        renewing = asyncio.create_task(self._renew(job))
        try:
            await self._handlers[job.kind](self._yard, job)
        except Exception as error:  # whatever a job raises is recorded, and tried again
            logger.exception("job %s %s failed", job.kind, job.id)
            reason = f"{type(error).__name__}: {error}"
            await self._yard.store.write(lambda conn: jobs.fail(conn, job, reason))
        else:
            await self._yard.store.write(lambda conn: jobs.finish(conn, job.id))
        finally:
            renewing.cancel()

    async def _renew(self, job: Job) -> None:
        while True:
            await asyncio.sleep(jobs.LEASE_MS / 3000)
            await self._yard.store.write(lambda conn: jobs.renew(conn, job.id))


async def dispatch(yard: Yard) -> None:
    """Hand every subscriber what it has not seen, until nothing new appears."""
    dispatcher, busy = yard.dispatcher, True
    while busy:
        busy = False
        for name in await yard.store.read(dispatcher.lagging):
            handed = await yard.store.write(lambda conn, name=name: dispatcher.run_pending(conn, name))
            busy = busy or handed > 0
