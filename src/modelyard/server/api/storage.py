"""The artifact store: free what nothing refers to."""

import asyncio
from dataclasses import asdict
from typing import Any

import msgspec

from modelyard.build.tracking.purge import purge
from modelyard.build.tracking.uploads import VALID_MS, give_up_old
from modelyard.deliver.deployments import libraries
from modelyard.domain.permissions import Permission
from modelyard.domain.sections import seconds
from modelyard.events import delivery, jobs, log
from modelyard.kit.clock import now_ms
from modelyard.server.routes import Call, Route
from modelyard.server.yard import Yard
from modelyard.store.objects.collection import GRACE_MS, Collection, collect

KEPT_MS = 30 * 86_400_000
"""How long ended jobs and webhook deliveries can be looked at."""


class Purge(msgspec.Struct):
    older_than: str = "30d"
    at_once: bool = False


async def collected(yard: Yard, actor: str, grace_ms: int = GRACE_MS) -> Collection:
    """Collect now, with what came of uploads that nobody ended; an event tells what was freed or found lost."""
    await yard.store.write(lambda conn: give_up_old(conn, now_ms() - min(grace_ms, VALID_MS)))
    done = await asyncio.to_thread(collect, yard.store, yard.objects, grace_ms)
    if done.binned or done.freed or done.lost:
        data = {**asdict(done), "lost": list(done.lost[:100])}
        await yard.store.write(lambda conn: log.append(conn, "storage.collected", "storage", actor, data))
    return done


async def run_collection(yard: Yard, job: jobs.Job) -> None:
    """The daily job. What was done for events is forgotten after KEPT_MS; the events stay."""
    before = now_ms() - KEPT_MS
    await yard.store.write(lambda conn: (jobs.forget(conn, before), delivery.forget(conn, before)))
    await collected(yard, "modelyard")


async def collect_now(call: Call) -> Any:
    return await collected(call.yard, call.principal.name)


async def purge_now(call: Call) -> Any:
    """Remove for good what was deleted, part by part, then collect; at once: bin and free in one go."""
    actor, before = call.principal.name, now_ms() - int(seconds(call.body.older_than) * 1000)
    total = {"runs": 0, "logged_models": 0, "experiments": 0, "files": 0}
    left = True
    while left:
        part = await call.yard.store.write(lambda conn: purge(conn, before))
        left = part.left
        total = {name: count + getattr(part, name) for name, count in total.items()}
    places = call.yard.home, list(call.yard.project.environments)
    total["environments"] = await asyncio.to_thread(libraries.remove_unused, *places, before)
    if any(total.values()):
        await call.yard.store.write(lambda conn: log.append(conn, "storage.purged", "storage", actor, total))
    done = await collected(call.yard, actor, 0 if call.body.at_once else GRACE_MS)
    if call.body.at_once:
        binned, done = done.binned, await collected(call.yard, actor, 0)
        return {**total, "binned": binned - done.freed, "freed": done.freed, "freed_bytes": done.freed_bytes}
    return {**total, "binned": done.binned, "freed": done.freed, "freed_bytes": done.freed_bytes}


ROUTES = [
    Route(
        "POST",
        "/api/v1/storage/purge",
        Permission.YARD_ADMIN,
        purge_now,
        body=Purge,
        summary="remove deleted runs, logged models and experiments for good, and workers' environments nobody uses",
    ),
    Route(
        "POST", "/api/v1/storage/collection", Permission.YARD_ADMIN, collect_now, summary="free unreferenced content"
    ),
]
