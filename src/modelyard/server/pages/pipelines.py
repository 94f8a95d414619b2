"""Pipeline runs and their steps."""

from collections import Counter
from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from modelyard.build.tracking import pipeline_runs
from modelyard.build.tracking.pipeline_runs import StepRun
from modelyard.build.tracking.search import search_experiments, search_runs
from modelyard.domain.permissions import Permission
from modelyard.kit.clock import now_ms
from modelyard.server.api import pipelines as api
from modelyard.server.api import schedules
from modelyard.server.pages import charts, render
from modelyard.server.pages.charts import Bar
from modelyard.server.routes import Call, Route

TONES = {"failed": "bad", "cached": "soft", "running": "busy", "retried": "busy"}
MOST_BARS = 60
RECENT = 200


async def list_pipeline_runs(call: Call) -> Response:
    found = (await api.list_pipeline_runs(call))["pipeline_runs"]
    running = any(item.state == pipeline_runs.RUNNING for item in found)
    declared = (await schedules.list_schedules(call))["schedules"]
    return render.page(call, "pipelines.html", found=found, running=running, declared=declared)


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
    bars = [_bar(step) for step in found.steps[:MOST_BARS]]
    picture = charts.bars(bars, "seconds of each step")
    tally = Counter(step.state for step in found.steps)
    code = {name: value for name, value in found.code.items() if value and not isinstance(value, dict)}
    return render.page(call, "pipeline.html", r=found, made=made, picture=picture, tally=tally, code=code)


def _bar(step: StepRun) -> Bar:
    seconds = step.seconds if step.ended_at is not None else (now_ms() - step.started_at) / 1000
    return Bar(step.step, seconds, None, TONES.get(step.state, ""), f"{seconds:.2f} s {step.state}")


async def show_log(call: Call) -> Response:
    """What a step printed, renewed while it runs."""
    found = await api.get_pipeline_run(call)
    log = await api.get_step_log(call)
    step = next(each for each in found.steps if each.step == call.path["step"])
    return render.page(call, "step_log.html", r=found, s=step, log=log)


R = Permission.PIPELINES_READ
ROUTES = [
    Route("GET", "/pipelines", R, list_pipeline_runs),
    Route("GET", "/pipelines/{id}", R, show),
    Route("GET", "/pipelines/{id}/logs/{step:path}", R, show_log),
]
