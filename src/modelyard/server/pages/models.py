"""Registered models: the list, a model's versions side by side, versions compared."""

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from modelyard.deliver.deployments import records
from modelyard.domain.permissions import Permission
from modelyard.kit.scores import Z95
from modelyard.registry import evidence
from modelyard.registry import models as registered
from modelyard.server.api import models as api
from modelyard.server.pages import charts, render
from modelyard.server.pages.charts import Point
from modelyard.server.routes import Call, Route

SHOWN_METRICS = 5


async def list_models(call: Call) -> Response:
    """The models, with a way to the prompts where there are any; or the prompts."""
    prompts = call.query.get("kind") == "prompt"
    others = await call.yard.store.read(lambda conn: registered.every(conn, 1, prompts=True))
    context = {"prompts": prompts, "has_prompts": bool(others)}
    return render.page(call, "models.html", **context, **await api.list_models(call))


async def show_model(call: Call) -> Response:
    name = call.path["name"]

    def work(conn: Connection) -> dict[str, Any]:
        live = {
            endpoint.environment: records.get(conn, endpoint.live).version
            for endpoint in records.find_endpoints(conn)
            if endpoint.model == name and endpoint.live
        }
        return {"model": registered.get(conn, name), "live": live}

    def errors(conn: Connection, numbers: list[int]) -> dict[int, dict[str, float]]:
        return {n: (evidence.evaluation(conn, name, n) or {}).get("standard_errors", {}) for n in numbers}

    context = await call.yard.store.read(work)
    versions = (await api.list_versions(call))["versions"]
    deviations = await call.yard.store.read(lambda conn: errors(conn, [v["version"] for v in versions]))
    metrics = _metrics(call, name, versions)
    context |= {
        "name": name,
        "versions": versions,
        "environments": list(call.yard.project.environments),
        "metrics": metrics,
        "pictures": [(metric, _picture(call, name, metric, versions, deviations)) for metric in metrics[:2]]
        if len(versions) > 1
        else [],
    }
    return render.page(call, "model.html", **context)


def _metrics(call: Call, name: str, versions: list[dict[str, Any]]) -> list[str]:
    """The metrics worth a column: the primary one and those with gates first."""
    known = {metric for version in versions for metric in version["metrics"]}
    declared = call.yard.project.models.get(name)
    first = [declared.primary_metric, *declared.gates] if declared else []
    ordered = [*first, *sorted(known)]
    return [metric for metric in dict.fromkeys(ordered) if metric in known][:SHOWN_METRICS]


def _picture(
    call: Call, name: str, metric: str, versions: list[dict[str, Any]], deviations: dict[int, dict[str, float]]
) -> Any:
    declared = call.yard.project.models.get(name)
    gate = declared.gates.get(metric) if declared else None
    points: list[Point] = []
    for version in reversed(versions):
        value, error = version["metrics"].get(metric), deviations[version["version"]].get(metric)
        low, high = None, None
        if value is not None and error is not None:
            low, high = value - Z95 * error, value + Z95 * error
        tone = "good" if "champion" in version["aliases"] else ("bad" if version["gates"] is False else "")
        points.append(Point(f"v{version['version']}", value, low, high, tone))
    bound = None if gate is None else (gate.min if gate.min is not None else gate.max)
    sign = "at least" if gate is not None and gate.min is not None else "at most"
    return charts.trend(points, f"{metric} by version", bound, f"gate: {sign} {bound:g}" if bound is not None else "")


async def compare(call: Call) -> Response:
    """Versions side by side: `v` once for each, after the one to compare `with`."""
    query = call.request.query_params
    wanted = [*query.getlist("with"), *query.getlist("v")]
    asked = replace(call, query={"versions": ",".join(sorted(dict.fromkeys(wanted), key=wanted.index))})
    return render.page(call, "compare_versions.html", c=await api.compare(asked))


R = Permission.VERSIONS_READ
ROUTES = [
    Route("GET", "/models", R, list_models),
    Route("GET", "/models/{name}", R, show_model),
    Route("GET", "/models/{name}/compare", R, compare),
]
