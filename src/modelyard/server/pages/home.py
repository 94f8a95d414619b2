"""The first page: what needs attention."""

from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from modelyard.build.tracking.search import search_experiments, search_runs
from modelyard.deliver.deployments import records
from modelyard.deliver.monitoring import alerts
from modelyard.domain.permissions import Permission
from modelyard.domain.states import ApprovalState
from modelyard.registry import approvals
from modelyard.server.pages import render
from modelyard.server.routes import Call, Route

NEWEST = 8


async def home(call: Call) -> Response:
    may = call.principal.may

    def work(conn: Connection) -> dict[str, Any]:
        shown: dict[str, Any] = {"approvals": [], "alerts": [], "rollouts": [], "runs": [], "experiments": {}}
        if may(Permission.VERSIONS_READ):
            shown["approvals"] = approvals.find(conn, state=ApprovalState.OPEN)
        if may(Permission.MONITORS_READ):
            shown["alerts"] = alerts.find(conn, unresolved_only=True)
        if may(Permission.DEPLOYMENTS_READ):
            active = [records.active_rollout(conn, e.environment, e.name) for e in records.find_endpoints(conn)]
            shown["rollouts"] = [rollout for rollout in active if rollout is not None]
        if may(Permission.RUNS_READ):
            shown["experiments"] = {item.id: item.name for item in search_experiments(conn)}
            shown["runs"] = (
                search_runs(conn, list(shown["experiments"]), limit=NEWEST) if shown["experiments"] else []
            )
        return shown

    return render.page(call, "home.html", **await call.yard.store.read(work))


ROUTES = [Route("GET", "/", Permission.SIGNED_IN, home, summary="what needs attention")]
