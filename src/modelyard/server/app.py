"""The composition root: every route, subscriber, job and loop of the control plane meets here."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

from modelyard.build.schedules import by_event, clock, starts, turns
from modelyard.deliver.deployments import subscribers as deployments
from modelyard.deliver.deployments.controller import Controller
from modelyard.deliver.monitoring import triggers
from modelyard.domain.project import Project
from modelyard.events import schedules
from modelyard.events import webhooks as event_webhooks
from modelyard.events.leases import Leases
from modelyard.kit import garbage
from modelyard.registry import subscribers as registry
from modelyard.server import certificates, log_keeping
from modelyard.server.api import (
    agents,
    approvals,
    endpoints,
    events,
    imports,
    models,
    monitors,
    pipelines,
    principals,
    repositories,
    storage,
    system,
    webhooks,
)
from modelyard.server.api import schedules as schedules_api
from modelyard.server.arrivals import watching
from modelyard.server.bootstrap import OWNER
from modelyard.server.brief_calls import BriefCalls
from modelyard.server.commit_jobs import run_commit
from modelyard.server.following import Follower
from modelyard.server.http import Application
from modelyard.server.job_handlers import run_monitor, run_pipeline, send_notification, start_retrain
from modelyard.server.loops import JobHandler, Loops, Timer, dispatch
from modelyard.server.mlflow_rest import routes as mlflow_rest
from modelyard.server.pages import table as pages
from modelyard.server.routes import Route, RouteTable
from modelyard.server.start_jobs import run_start
from modelyard.server.yard import Yard
from modelyard.store import filters

ROUTES: list[Route] = [
    *system.ROUTES,
    *principals.ROUTES,
    *events.ROUTES,
    *models.ROUTES,
    *approvals.ROUTES,
    *endpoints.ROUTES,
    *agents.ROUTES,
    *monitors.ROUTES,
    *pipelines.ROUTES,
    *schedules_api.ROUTES,
    *repositories.ROUTES,
    *storage.ROUTES,
    *webhooks.ROUTES,
    *imports.ROUTES,
    *mlflow_rest.ROUTES,
    *pages.ROUTES,
]

JOBS: dict[str, JobHandler] = {
    "pipeline": run_pipeline,
    "monitor": run_monitor,
    "notify": send_notification,
    "commit": run_commit,
    "collect": storage.run_collection,
    "webhook": webhooks.run_delivery,
    "retrain": start_retrain,
    starts.JOB: run_start,
}


def subscribe(yard: Yard) -> None:
    """Where an approval meets delivery, and an alert meets a pipeline."""
    registry.subscribe(yard.dispatcher, yard.project)
    event_webhooks.subscribe(yard.dispatcher)
    deployments.subscribe(yard.dispatcher, yard.project)
    triggers.subscribe(yard.dispatcher, yard.project)
    by_event.subscribe(yard.dispatcher, yard.project)


def timers(project: Project) -> list[Timer]:
    """What the loops do by the clock: jobs that come again and again, pipelines that are due, starts' turns."""
    return [
        Timer(schedules.any_due, schedules.enqueue_due),
        Timer(lambda conn: clock.any_due(conn, project), lambda conn: clock.start_due(conn, project)),
        Timer(lambda conn: turns.any_waiting(conn, project), lambda conn: turns.release(conn, project)),
    ]


def build(yard: Yard) -> Application:
    """The yard's HTTP surface, without loops: what an embedded client calls in process."""
    subscribe(yard)
    return Application(yard, RouteTable(ROUTES))


class Embedded:
    """`build`'s surface for a client in the same process: what a request leads to by itself follows at once."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard
        self._app = build(yard)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
        if scope["method"] != "GET":
            await dispatch(self._yard)


class Server:
    """The ASGI application of a server process: `build`'s surface and the loops, tied to the process's life."""

    def __init__(self, yard: Yard, ready: Callable[[], None]) -> None:
        self._yard = yard
        self._ready = ready
        self._app = build(yard)
        self.brief = BriefCalls(self._app)
        self._tasks: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._app(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        yard = self._yard
        leases = Leases(yard.store, f"{socket.gethostname()}:{yard.home}")
        controller = Controller(yard.store, yard.objects, yard.home, yard.project, leases)
        follower = Follower(yard, OWNER)
        loops: list[Awaitable[None]] = [
            Loops(yard, JOBS, timers(yard.project)).run(),
            controller.run(),
            follower.run(),
            *watching(yard, leases),
            log_keeping.keep(yard),
            certificates.keep(yard),
            *([yard.certificates.keep()] if yard.certificates is not None else []),
        ]
        self._tasks = [asyncio.ensure_future(loop) for loop in loops]
        await send({"type": "lifespan.startup.complete"})
        self._ready()
        garbage.settle()
        await asyncio.to_thread(filters.warm_up)
        await receive()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._yard.store.close()
        await send({"type": "lifespan.shutdown.complete"})
