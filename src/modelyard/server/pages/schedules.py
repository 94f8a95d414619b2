"""A declared pipeline: its next moments, its starts, its backfills, and a person's say over them."""

from dataclasses import replace
from typing import Any

from starlette.responses import Response

from modelyard.build.schedules.starts import OPEN
from modelyard.domain.errors import Invalid, ModelyardError
from modelyard.domain.permissions import Permission
from modelyard.server.api import schedules as api
from modelyard.server.pages import forms, render, wording
from modelyard.server.routes import Call, Route


async def show(call: Call, failure: ModelyardError | None = None) -> Response:
    found: dict[str, Any] = await api.get_schedule(call)
    busy = any(start.state in OPEN for start in found["starts"])
    here = wording.at("schedules", call.path["name"])
    status = failure.status if failure else 200
    return render.page(
        call, "schedule.html", status=status, s=found, busy=busy, failure=failure, here=here, open=OPEN
    )


async def answer(call: Call) -> Response:
    """Start, pause or resume it."""
    reason, here = forms.field(call, "reason"), wording.at("schedules", call.path["name"])
    acts = {
        "start": (api.start, api.NewStart(), "started"),
        "pause": (api.pause, api.Why(reason), "schedule-paused"),
        "resume": (api.resume, None, "schedule-resumed"),
    }
    if call.path["action"] not in acts:
        raise Invalid(f"{call.path['action'][:40]!r} is not known.", remedy=f"One of {', '.join(acts)}.")
    handler, body, done = acts[call.path["action"]]
    return await forms.act(call, handler, body, here, done, show)


async def cancel(call: Call) -> Response:
    """Stop a start that waits or runs."""
    name, body = call.path["name"], api.Why(forms.field(call, "reason"))

    async def handler(inner: Call) -> Any:
        return await api.cancel_start(replace(inner, path={"id": call.path["id"]}))

    return await forms.act(call, handler, body, wording.at("schedules", name), "cancelled", show)


R, X = Permission.PIPELINES_READ, Permission.PIPELINES_RUN
ROUTES = [
    Route("GET", "/schedules/{name}", R, show),
    Route("POST", "/schedules/{name}/{action}", X, answer, form=True, max_body=65_536),
    Route("POST", "/schedules/{name}/starts/{id}/cancel", X, cancel, form=True, max_body=65_536),
]
