"""The job of a start: run the declared pipeline, end it early when that is asked, note what became of it."""

import asyncio
from typing import Any

from modelyard.build.schedules import starts
from modelyard.build.schedules.starts import Start
from modelyard.domain.errors import ModelyardError
from modelyard.events.jobs import Job
from modelyard.server.job_handlers import PIPELINE_PRINCIPAL, arguments, command
from modelyard.server.stopping import unless
from modelyard.server.yard import Yard

LOOK_S = 0.5
MOST_RUNNERS = 3
"""A start whose runners die with their server is given up after so many."""


async def run_start(yard: Yard, job: Job) -> None:
    """Run a declared pipeline: payload {start}."""
    start_id: str = job.payload["start"]
    start = await yard.store.write(lambda conn: starts.begin(conn, start_id))
    if start is None:
        return
    ended, error = await unless(_cancelled(yard, start_id), _run(yard, job, start))
    await yard.store.write(lambda conn: starts.finish(conn, start_id, error if ended else None))


async def _run(yard: Yard, job: Job, start: Start) -> str | None:
    """Why the pipeline failed; None when it ran to its end."""
    declared = yard.project.pipelines.get(start.pipeline)
    if declared is None:
        return f"The pipeline {start.pipeline!r} is no longer declared."
    if job.attempts > MOST_RUNNERS:
        return f"Its runner died {MOST_RUNNERS} times."
    words = arguments(declared.pipeline, start.params, start.cause)
    try:
        await command(yard, PIPELINE_PRINCIPAL, job, [*words, "--run-id", str(start.pipeline_run_id)])
    except ModelyardError as error:
        return error.message
    return None


async def _cancelled(yard: Yard, start_id: str) -> Any:
    """Returns when the start is to be stopped."""
    while (await yard.store.read(lambda conn: starts.get(conn, start_id))).state != starts.CANCELLING:
        await asyncio.sleep(LOOK_S)
