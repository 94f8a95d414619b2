"""What machines that only serve ask of the hub."""

import asyncio
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from modelyard.deliver.deployments import agents, arrivals, places, publishing, records
from modelyard.deliver.deployments.agents import Report
from modelyard.domain.errors import Invalid, TooLarge
from modelyard.domain.permissions import Permission
from modelyard.server.routes import Call, Route


async def placement(call: Call) -> Any:
    """What an environment's data plane shall run: endpoints, deployments with their files, who may ask."""
    environment, project = call.path["environment"], call.yard.project
    wanted = await call.yard.store.read(lambda conn: publishing.read(conn, environment, project))
    return wanted.placement


async def report(call: Call) -> Any:
    """An agent's word: its workers and counters, and rollbacks that were made there while the hub was away."""
    environment, name = call.path["environment"], call.path["name"]
    project, said, principal = call.yard.project, call.body, call.principal

    def work(conn: Connection) -> list[str]:
        return agents.report(conn, project, environment, name, said, principal)

    return {"recorded": await call.yard.store.write(work)}


async def _segment(call: Call) -> tuple[Path, str]:
    """(folder, name) of the segment that a path names. Raises NotFound for an endpoint that is not there."""
    environment, endpoint = call.path["environment"], call.path["name"]
    await call.yard.store.read(lambda conn: records.get_endpoint(conn, environment, endpoint))
    name = call.path["segment"]
    return arrivals.folder_of(places.predictions(call.yard.home, environment, endpoint), call.path["log"], name), name


async def arrived(call: Call) -> Any:
    """How much of a prediction log's segment is here: {"received", "whole"}."""
    received, whole = await asyncio.to_thread(arrivals.arrived, *await _segment(call))
    return {"received": received, "whole": whole}


async def take_segment(call: Call) -> Any:
    """A piece of a far machine's segment, raw; `offset`, `size` and the whole's `digest` in the query."""
    folder, name = await _segment(call)
    try:
        offset, size = int(call.query["offset"]), int(call.query["size"])
        digest = call.query["digest"]
    except (KeyError, ValueError) as error:
        raise Invalid("A piece needs offset, size and digest.", remedy="Give them in the query.") from error
    data = bytearray()
    async for chunk in call.request.stream():
        data += chunk
        if len(data) > MOST_PIECE:
            raise TooLarge(f"The piece is larger than {MOST_PIECE} bytes.", remedy="Send less at once.")
    received, whole = await asyncio.to_thread(arrivals.take, folder, name, offset, size, digest, bytes(data))
    return {"received": received, "whole": whole}


async def list_agents(call: Call) -> Any:
    return {"agents": await call.yard.store.read(agents.every), "next": None}


MOST_PIECE = 4 << 20
E, SERVE = "environment", Permission.ENDPOINTS_SERVE
PLACE = "/api/v1/environments/{environment}/placement"
REPORT = "/api/v1/environments/{environment}/agents/{name}"
SEGMENT = "/api/v1/environments/{environment}/endpoints/{name}/log/{log}/{segment}"
ROUTES = [
    Route("GET", PLACE, SERVE, placement, environment=E),
    Route("POST", REPORT, SERVE, report, body=Report, environment=E, max_body=8 << 20),
    Route("GET", SEGMENT, SERVE, arrived, environment=E),
    Route("POST", SEGMENT, SERVE, take_segment, environment=E, stream=True),
    Route("GET", "/api/v1/agents", Permission.DEPLOYMENTS_READ, list_agents),
]
