"""Pipeline runs and their steps."""

from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from modelyard.build.tracking import pipeline_runs
from modelyard.build.tracking.search import search_experiments, search_runs
from modelyard.domain.permissions import Permission
from modelyard.server.api import pipelines as api
from modelyard.server.pages import charts, render
from modelyard.server.pages.charts import Bar
from modelyard.server.routes import Call, Route

TONES = {"failed": "bad", "cached": "soft"}
RECENT = 200


async def list_pipeline_runs(call: Call) -> Response:
    found = (await api.list_pipeline_runs(call))["pipeline_runs"]
    running = any(item.state == pipeline_runs.RUNNING for item in found)
    return render.page(call, "pipelines.html", found=found, running=running)


async def show(call: Call) -> Response:
    found: Any = await api.get_pipeline_run(call)

    def work(conn: Connection) -> list[Any]:
        if not call.principal.may(Permission.RUNS_READ):
            return []
        places = [item.id for item in search_experiments(conn)]
        recent = (
            search_runs(conn, places, f"attributes.start_time >= {found.started_at}", limit=RECENT) if places else []
        )
        return [run for run in recent if run.pipeline_run_id == found.id]

    made = await call.yard.store.read(work)
    bars = [Bar(s.step, s.seconds, None, TONES.get(s.state, ""), f"{s.seconds:.2f} s {s.state}") for s in found.steps]
    return render.page(call, "pipeline.html", r=found, made=made, picture=charts.bars(bars, "seconds of each step"))


R = Permission.PIPELINES_READ
ROUTES = [Route("GET", "/pipelines", R, list_pipeline_runs), Route("GET", "/pipelines/{id}", R, show)]
