"""The server's loops: subscribers after each commit, schedules, and jobs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from modelyard.events import jobs, schedules
from modelyard.events.jobs import Job
from modelyard.server.yard import Yard

JobHandler = Callable[[Yard, Job], Awaitable[None]]
TICK_S = 1.0
logger = logging.getLogger("modelyard.loops")


class Loops:
    """Runs until cancelled. Woken by commits; a tick also sees what other processes wrote."""

    def __init__(self, yard: Yard, handlers: dict[str, JobHandler]) -> None:
        self._yard = yard
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
            if await self._yard.store.read(schedules.any_due):
                await self._yard.store.write(schedules.enqueue_due)
            await self._start_jobs()
        except Exception:  # the loop of last resort: one bad turn must not end the platform's work
            logger.exception("a turn of the loops failed; it is tried again")

    async def _start_jobs(self) -> None:
        kinds = list(self._handlers)
        while await self._yard.store.read(lambda conn: jobs.any_due(conn, kinds)):
            job = await self._yard.store.write(lambda conn: jobs.claim(conn, kinds))
            if job is None:
                return
            task = asyncio.create_task(self._run_job(job))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

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
