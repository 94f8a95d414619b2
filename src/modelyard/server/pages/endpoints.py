"""Endpoints with their live traffic, and the way back."""

from typing import Any

import msgspec
from sqlalchemy import Connection
from starlette.responses import Response

from modelyard.deliver.deployments import places, records, rollouts
from modelyard.deliver.monitoring import alerts as alert_records
from modelyard.deliver.monitoring import baselines
from modelyard.deliver.monitoring import records as monitoring
from modelyard.deliver.monitoring.baselines import Baseline
from modelyard.deliver.serving import probe
from modelyard.domain import freezes
from modelyard.domain.environments import DECLINED_ABOVE_CHAMPION, AbortIf
from modelyard.domain.errors import Conflict, Forbidden, Invalid, ModelyardError
from modelyard.domain.permissions import Permission
from modelyard.kit.clock import now_ms
from modelyard.server.api import endpoints as api
from modelyard.server.api import monitors as monitors_api
from modelyard.server.pages import charts, forms, render, wording
from modelyard.server.pages.charts import Bar, Point
from modelyard.server.pages.traffic import summary
from modelyard.server.readings import Reading
from modelyard.server.routes import Call, Route

STEERED = {"pause": "paused", "resume": "resumed", "promote": "promoted", "abort": "aborted"}
TONES = {"alert": "bad", "warning": "busy", "ok": "good"}


async def list_endpoints(call: Call) -> Response:
    found = await api.observe(call)
    await _measure(call, found)
    return render.page(call, "endpoints.html", endpoints=found)


async def show(call: Call, failure: ModelyardError | None = None) -> Response:
    environment, name = call.path["environment"], call.path["name"]
    found = await api.get_endpoint(call)
    await _measure(call, [found])

    def work(conn: Connection) -> dict[str, Any]:
        for rollout in found["history"]:
            rollout["to_version"] = records.get(conn, rollout["to_deployment"]).version
        shown = _way_back(conn, environment, name)
        endpoint = records.get_endpoint(conn, environment, name)
        shown["policy"] = records.policy_at(call.yard.project, endpoint)
        shown["bounds"] = _bounds(records.bounds_at(call.yard.project, endpoint))
        held = alert_records.find(conn, unresolved_only=True) if call.principal.may(Permission.MONITORS_READ) else []
        shown["alerts"] = [alert for alert in held if (alert.environment, alert.endpoint) == (environment, name)]
        return shown

    shown = await call.yard.store.read(work) | _frozen(call, environment)
    here = wording.at("endpoints", environment, name)
    status = failure.status if failure else 200
    return render.page(call, "endpoint.html", status=status, e=found, failure=failure, here=here, **shown)


def _bounds(held: AbortIf) -> dict[str, Any]:
    """{key: bound} of those in force."""
    found = msgspec.structs.asdict(held)
    if held.declined_rate_above_champion is None:
        found["declined_rate_above_champion"] = DECLINED_ABOVE_CHAMPION
    found["prometheus"] = f"{held.prometheus.query} > {held.prometheus.max:g}" if held.prometheus else None
    return {key: bound for key, bound in found.items() if bound is not None}


def _way_back(conn: Connection, environment: str, name: str) -> dict[str, Any]:
    """Where a rollback leads now, or why to nowhere."""
    try:
        return {"back": rollouts.way_back(conn, environment, name), "stuck": ""}
    except (Conflict, Forbidden) as error:
        return {"back": None, "stuck": str(error)}


def _frozen(call: Call, environment: str) -> dict[str, Any]:
    """The environment's freeze windows, and until when one holds."""
    declared = call.yard.project.environments.get(environment)
    windows = declared.freeze if declared else []
    until = freezes.frozen_until(windows, now_ms())
    return {"freeze": windows, "frozen": until.strftime("%Y-%m-%d %H:%M") if until else None}


async def _measure(call: Call, found: list[dict[str, Any]]) -> None:
    """Add `now`, the traffic of the last seconds, to every endpoint; roles that have no deployment become None."""
    asked: dict[str, dict[str, Any]] = {}
    for item in found:
        place = item["environment"]
        if place not in asked:
            asked[place] = await probe.ask(str(places.admin_socket(call.yard.home, place))) or {}
        counted = asked[place].get("endpoints", {}).get(item["name"], {}).get("deployments", {})
        item["now"] = summary(call.yard.readings.add(place, item["name"], Reading(now_ms(), counted)))
        item["deployments"] = {role: item["deployments"].get(role) for role in ("live", "next", "previous")}


async def rollback(call: Call) -> Response:
    to = forms.field(call, "to")
    body = api.Back(forms.field(call, "reason"), to=int(to) if to.isdecimal() else None)
    return await forms.act(call, _with_reason(api.rollback), body, _here(call), "rolled-back", show)


async def steer(call: Call) -> Response:
    """Pause, resume, promote or abort the rollout under way."""
    done = STEERED.get(call.path["action"])
    if done is None:
        raise Invalid(f"{call.path['action'][:40]!r} is not known.", remedy=f"One of {', '.join(STEERED)}.")
    return await forms.act(
        call, _with_reason(api.steer), api.Reason(forms.field(call, "reason")), _here(call), done, show
    )


def _with_reason(handler: Any) -> Any:
    async def checked(call: Call) -> Any:
        if not call.body.reason:
            raise Invalid("This needs a reason.", remedy="Write a few words that others will understand.")
        return await handler(call)

    return checked


def _here(call: Call) -> str:
    return wording.at("endpoints", call.path["environment"], call.path["name"])


async def monitors(call: Call, failure: ModelyardError | None = None) -> Response:
    """Every window that the endpoint's monitors judged, by kind, and what they are compared with."""
    environment, name = call.path["environment"], call.path["name"]

    def work(conn: Connection) -> tuple[list[dict[str, Any]], Baseline | None]:
        endpoint = records.get_endpoint(conn, environment, name)
        model = call.yard.project.models.get(endpoint.model)
        watched = endpoint.live is not None and model is not None and model.monitor is not None
        baseline = baselines.read(conn, environment, name) if watched else None
        return monitoring.results(conn, environment, name, limit=400), baseline

    found, baseline = await call.yard.store.read(work)
    kinds: dict[str, list[dict[str, Any]]] = {}
    for result in found:
        kinds.setdefault(result["kind"], []).append(result)
    shown = [(kind, results, *picture(kind, results)) for kind, results in kinds.items()]
    status = failure.status if failure else 200
    about = {"environment": environment, "name": name, "kinds": shown, "baseline": baseline, "failure": failure}
    return render.page(call, "monitors.html", status=status, **about)


async def rebase(call: Call) -> Response:
    """A new first window for a version that has no reference window."""
    body = monitors_api.Reason(forms.field(call, "reason"))
    here = _here(call) + "/monitors"
    return await forms.act(call, _with_reason(monitors_api.rebase), body, here, "rebased", monitors)


def picture(kind: str, newest_first: list[dict[str, Any]], most: int = 40) -> tuple[Any, str]:
    """(picture, what it shows) of a monitor's windows over time, for the kinds whose results hold one number."""
    windows = newest_first[:most][::-1]
    first = windows[-1]["result"] if windows else {}
    at = _moments(windows)
    if "share" in first:
        points = [_window(r, at, r["result"].get("share")) for r in windows]
        return charts.trend(
            points, f"{kind} by window", first.get("limit"), "limit"
        ), "share of drifted columns by window"
    if "value" in first and "limit" in first:
        points = [_window(r, at, r["result"].get("value")) for r in windows]
        return charts.trend(points, f"{kind} by window", first["limit"], "limit"), f"{first['metric']} by window"
    if "value" in first and "baseline" in first:
        points = [_window(r, at, r["result"].get("value"), r["result"].get("standard_error")) for r in windows]
        label = f"{first.get('metric', kind)} by window"
        return charts.trend(points, label, first["baseline"], first.get("against", "as registered")), label
    return "", ""


def _moments(windows: list[dict[str, Any]]) -> slice:
    """What tells the windows' ends apart: the time of one day, or the day."""
    days = {wording.exact(result["window_end"])[:10] for result in windows}
    return slice(11, 16) if len(days) == 1 else slice(5, 10)


def _window(result: dict[str, Any], at: slice, value: float | None, error: float | None = None) -> Point:
    tone = TONES.get(result["verdict"], "")
    label = wording.exact(result["window_end"])[at]
    if value is None or error is None:
        return Point(label, value, tone=tone)
    return Point(label, value, value - 1.96 * error, value + 1.96 * error, tone)


def drifted(columns: list[dict[str, Any]], most: int = 12) -> Any:
    """The columns with the largest effects, each beside its threshold."""
    rows = [
        Bar(
            str(column["name"]),
            column["effect"] / column["threshold"],
            1.0,
            "bad" if column["drifted"] else "soft",
            f"{column['effect'] / column['threshold']:.1f}× its threshold",
        )
        for column in columns[:most]
        if column.get("threshold")
    ]
    return charts.bars(rows, "effect of each column beside its threshold")


E, ONE = "environment", "/endpoints/{environment}/{name}"
R, BACK = Permission.DEPLOYMENTS_READ, Permission.DEPLOYMENTS_ROLLBACK
ROUTES = [
    Route("GET", "/endpoints", R, list_endpoints),
    Route("GET", ONE, R, show, environment=E),
    Route("GET", ONE + "/monitors", Permission.MONITORS_READ, monitors, environment=E),
    Route("POST", ONE + "/rebase", Permission.MONITORS_WRITE, rebase, environment=E, form=True, max_body=65_536),
    Route("POST", ONE + "/rollback", BACK, rollback, environment=E, form=True, max_body=65_536),
    Route("POST", ONE + "/rollout/{action}", BACK, steer, environment=E, form=True, max_body=65_536),
]
