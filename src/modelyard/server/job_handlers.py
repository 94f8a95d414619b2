"""What each kind of job does: all of it in other processes or threads, with credentials of its own."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from modelyard.deliver.monitoring import alerts, answers, notifications, triggers
from modelyard.domain.errors import ModelyardError, NotFound, Unavailable
from modelyard.events import log
from modelyard.events.jobs import MOST_ATTEMPTS, Job
from modelyard.governance import tokens
from modelyard.kit.clock import now_ms
from modelyard.kit.processes import PARENT
from modelyard.server.yard import Yard

PIPELINE_PRINCIPAL, MONITOR_PRINCIPAL = "pipeline", "monitor"
GRACE_S = 10.0


async def run_pipeline(yard: Yard, job: Job) -> None:
    """Run a project's pipeline as the pipeline service: payload {pipeline, params}."""
    words = arguments(job.payload["pipeline"], job.payload.get("params", {}), job.cause)
    await command(yard, PIPELINE_PRINCIPAL, job, words)


def arguments(pipeline: str, params: dict[str, Any], cause: str | None) -> list[str]:
    """The command that runs a pipeline."""
    given = [word for name, value in params.items() for word in ("--param", f"{name}={value}")]
    return ["run", pipeline, "--no-progress", *given, *(["--cause", cause] if cause else [])]


async def run_monitor(yard: Yard, job: Job) -> None:
    """Compare an endpoint's new windows with its reference: payload {model, environment}."""
    arguments = ["monitor", "run", job.payload["model"], "--environment", job.payload["environment"]]
    await command(yard, MONITOR_PRINCIPAL, job, arguments)


async def start_retrain(yard: Yard, job: Job) -> None:
    """A scheduled retrain is due: payload {model}. The policy decides whether it starts."""
    await yard.store.write(lambda conn: triggers.on_schedule(conn, yard.project, job.payload["model"]))


async def _pictures(yard: Yard, data: dict[str, Any]) -> dict[str, str]:
    """The drawings of the alert that a notification is about; none of what is about something else."""
    alert_id = data.get("alert")
    if not alert_id:
        return {}
    try:
        return await yard.store.read(lambda conn: answers.pictures(conn, alerts.get(conn, alert_id)))
    except NotFound:
        return {}


async def send_notification(yard: Yard, job: Job) -> None:
    """Deliver a notification: payload {channel, type, subject, data}. Only a refusing service is retried."""
    payload = job.payload
    channel, told = payload["channel"], {"channel": payload["channel"], "about": payload["type"]}
    subject: str = payload["subject"]
    try:
        about = payload["type"], payload["data"], yard.home, job.id, await _pictures(yard, payload["data"])
        await asyncio.to_thread(notifications.send, yard.project, channel, *about)
    except ModelyardError as error:
        if isinstance(error, Unavailable) and job.attempts < MOST_ATTEMPTS:
            raise
        told["reason"] = str(error)
        kind = "notification.failed"
    else:
        kind = "notification.sent"
    await yard.store.write(lambda conn: log.append(conn, kind, subject, "modelyard", told, cause=job.cause))


async def _service_token(yard: Yard, principal: str) -> str:
    """The service's token of this server process, renewed when half of its life is over."""
    held = yard.service_tokens.get(principal)
    if held is None or held[0] < now_ms():
        secret = await yard.store.write(
            lambda conn: tokens.issue(conn, principal, tokens.SERVICE, actor="modelyard", label="jobs")
        )
        held = (now_ms() + (tokens.LIFETIME_MS[tokens.SERVICE] or 0) // 2, secret)
        yard.service_tokens[principal] = held
    return held[1]


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask the process to end, and end it after GRACE_S."""
    process.terminate()
    try:
        async with asyncio.timeout(GRACE_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def command(yard: Yard, principal: str, job: Job, arguments: list[str], folder: Path | None = None) -> None:
    """Run a modelyard command with a token of the service's own; raises when it fails, with its last words."""
    secret = await _service_token(yard, principal)
    settings = yard.settings
    environment: dict[str, Any] = {
        **os.environ,
        "MODELYARD_URL": settings.url,
        "MODELYARD_TOKEN": secret,
        "MODELYARD_HOME": str(yard.home),
        PARENT: str(os.getpid()),
    }
    log_path = yard.home / "logs" / f"job-{job.kind}.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "modelyard",
            *arguments,
            cwd=folder or yard.project_dir,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, errors = await process.communicate()
        except asyncio.CancelledError:
            await _end(process)
            raise
        log.write(errors)
    if process.returncode != 0:
        words = errors.decode("utf-8", "replace").strip().splitlines()
        raise ModelyardError(
            words[-1].removeprefix("Error: ") if words else f"exit {process.returncode}", remedy=f"See {log_path}."
        )
