"""The artifact store: free what nothing refers to."""

import asyncio
from dataclasses import asdict
from typing import Any

from modelyard.domain.permissions import Permission
from modelyard.events import log
from modelyard.events.jobs import Job
from modelyard.server.routes import Call, Route
from modelyard.server.yard import Yard
from modelyard.store.objects.collection import Collection, collect


async def collected(yard: Yard, actor: str) -> Collection:
    """Collect now; an event tells what was freed or found lost."""
    done = await asyncio.to_thread(collect, yard.store, yard.objects)
    if done.binned or done.freed or done.lost:
        data = {**asdict(done), "lost": list(done.lost[:100])}
        await yard.store.write(lambda conn: log.append(conn, "storage.collected", "storage", actor, data))
    return done


async def run_collection(yard: Yard, job: Job) -> None:
    """The daily job."""
    await collected(yard, "modelyard")


async def collect_now(call: Call) -> Any:
    return await collected(call.yard, call.principal.name)


ROUTES = [
    Route(
        "POST", "/api/v1/storage/collection", Permission.YARD_ADMIN, collect_now, summary="free unreferenced content"
    ),
]
