"""The job of a pushed commit: check it out, run its pipelines, tell the git host; end early for a newer commit."""

import asyncio
import logging
from pathlib import Path

from modelyard.build.ci import commit_runs, commit_status
from modelyard.build.ci.checkout import checkout
from modelyard.build.ci.commit_runs import CommitRun
from modelyard.build.ci.commit_status import State
from modelyard.domain.errors import ConfigError, ModelyardError
from modelyard.domain.project import Repository
from modelyard.events.jobs import Job
from modelyard.server.bootstrap import read_project
from modelyard.server.job_handlers import PIPELINE_PRINCIPAL, arguments, command
from modelyard.server.stopping import unless
from modelyard.server.yard import Yard

LOOK_S = 0.5
logger = logging.getLogger("modelyard.ci")


async def run_commit(yard: Yard, job: Job) -> None:
    """Run every pipeline of a commit: payload {commit_run}."""
    run_id: str = job.payload["commit_run"]
    if not await yard.store.write(lambda conn: commit_runs.begin(conn, run_id)):
        return
    run = await yard.store.read(lambda conn: commit_runs.get(conn, run_id))
    repository = yard.project.repositories.get(run.repository)
    if repository is None:
        await yard.store.write(lambda conn: commit_runs.finish(conn, run_id, "the repository is no longer declared"))
        return
    await _tell(repository, run, "pending", "the pipelines run")
    ended, error = await unless(_superseded(yard, run_id), _run(yard, job, repository, run))
    if not ended:
        await _tell(repository, run, "failure", "a newer commit took its place")
    elif await yard.store.write(lambda conn: commit_runs.finish(conn, run_id, error)):
        await _tell(repository, run, "failure" if error else "success", error or "the pipelines ran to their end")


async def _run(yard: Yard, job: Job, repository: Repository, run: CommitRun) -> str | None:
    """Why a pipeline of the commit failed; None when all ran to their end."""
    mirror = yard.home / "repositories" / f"{run.repository}.git"
    folder = yard.home / "checkouts" / run.id
    held = checkout(repository.url, run.commit, mirror, folder)
    try:
        await asyncio.to_thread(held.__enter__)
        try:
            for pipeline in _pipelines(repository, folder):
                await command(yard, PIPELINE_PRINCIPAL, job, arguments(pipeline, {}, run.cause), folder)
        finally:
            await asyncio.to_thread(held.__exit__, None, None, None)
    except ModelyardError as error:
        return str(error)
    return None


def _pipelines(repository: Repository, folder: Path) -> list[str]:
    """What the commit's project file names, unless the repository names pipelines. Raises ConfigError for none."""
    declared = read_project(folder).models.values()
    found = repository.pipelines or sorted({model.pipeline for model in declared if model.pipeline})
    if not found:
        raise ConfigError("The commit's modelyard.toml names no pipeline.", remedy="Write models.NAME.pipeline.")
    return found


async def _superseded(yard: Yard, run_id: str) -> None:
    """Returns when the run was superseded."""
    while (await yard.store.read(lambda conn: commit_runs.get(conn, run_id))).state != commit_runs.SUPERSEDED:
        await asyncio.sleep(LOOK_S)


async def _tell(repository: Repository, run: CommitRun, state: State, description: str) -> None:
    """Tell the git host; a host that refuses does not fail the run."""
    try:
        await asyncio.to_thread(commit_status.send, repository, run.commit, state, description)
    except ModelyardError as error:
        logger.warning("status of %s in %s: %s", run.commit[:10], run.repository, error)
