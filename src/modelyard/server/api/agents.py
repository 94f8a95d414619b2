"""What machines that only serve ask of the hub."""

from typing import Any

from sqlalchemy import Connection

from modelyard.deliver.deployments import agents, publishing
from modelyard.deliver.deployments.agents import Report
from modelyard.domain.permissions import Permission
from modelyard.server.routes import Call, Route


async def placement(call: Call) -> Any:
    """What an environment's data plane shall run: endpoints, deployments with their files, who may ask."""
    environment, models = call.path["environment"], call.yard.project.models
    wanted = await call.yard.store.read(lambda conn: publishing.read(conn, environment, models))
    return wanted.placement


async def report(call: Call) -> Any:
    """An agent's word: its workers and counters, and rollbacks that were made there while the hub was away."""
    environment, name = call.path["environment"], call.path["name"]
    project, said, principal = call.yard.project, call.body, call.principal

    def work(conn: Connection) -> list[str]:
        return agents.report(conn, project, environment, name, said, principal)

    return {"recorded": await call.yard.store.write(work)}


async def list_agents(call: Call) -> Any:
    return {"agents": await call.yard.store.read(agents.every), "next": None}


E, SERVE = "environment", Permission.ENDPOINTS_SERVE
PLACE = "/api/v1/environments/{environment}/placement"
REPORT = "/api/v1/environments/{environment}/agents/{name}"
ROUTES = [
    Route("GET", PLACE, SERVE, placement, environment=E),
    Route("POST", REPORT, SERVE, report, body=Report, environment=E, max_body=8 << 20),
    Route("GET", "/api/v1/agents", Permission.DEPLOYMENTS_READ, list_agents),
]
