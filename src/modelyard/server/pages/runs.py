"""Experiments, the table of runs, a run, runs side by side, and the points of their curves."""

from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from modelyard.build.tracking import artifacts, experiments, inputs, logged_models, metrics, runs
from modelyard.build.tracking.runs import Run
from modelyard.build.tracking.search import count, search_experiments, search_runs
from modelyard.domain.errors import Invalid, ModelyardError
from modelyard.domain.permissions import Permission
from modelyard.registry.search import search_versions
from modelyard.server.pages import render, wording
from modelyard.server.routes import Call, Route

PAGE = 100
MOST_POINTS = 2000
"""Points of one curve that are sent: more than a chart has pixels."""
MOST_CURVES = 10
SYSTEM = "system/"
SHOWN_COLUMNS = 4


async def list_experiments(call: Call) -> Response:
    def work(conn: Connection) -> list[tuple[Any, int]]:
        return [(item, count(conn, item.id)) for item in search_experiments(conn)]

    base = str(call.request.base_url).rstrip("/")
    return render.page(call, "experiments.html", experiments=await call.yard.store.read(work), base=base)


async def list_runs(call: Call) -> Response:
    number, query = _number(call.path["id"]), call.query
    page = max(1, int(query["page"])) if query.get("page", "").isdigit() and len(query["page"]) < 8 else 1
    text, order = query.get("filter", ""), query.get("order", "")

    def work(conn: Connection) -> dict[str, Any]:
        return {"experiment": experiments.get(conn, number), "total": count(conn, number)}

    def find(conn: Connection) -> list[Run]:
        skip = (page - 1) * PAGE
        return search_runs(conn, [number], text, order_by=[order] if order else None, limit=PAGE + 1, offset=skip)

    context = await call.yard.store.read(work)
    failure: ModelyardError | None = None
    try:
        found = await call.yard.store.read(find)
    except Invalid as error:
        found, failure = [], error
    shown = found[:PAGE]
    context |= _table(shown, query, order)
    context |= {"runs": shown, "more": len(found) > PAGE, "page": page, "filter": text, "order": order}
    return render.page(call, "runs.html", status=failure.status if failure else 200, failure=failure, **context)


def _table(shown: list[Run], query: dict[str, str], order: str) -> dict[str, Any]:
    """Which columns, orders and curves a page of runs offers and shows."""
    stepped = sorted({m.key for run in shown for m in run.metrics if m.step > 0 and not m.key.startswith(SYSTEM)})
    offered = {
        "metrics": sorted({m.key for run in shown for m in run.metrics if not m.key.startswith(SYSTEM)}),
        "params": sorted({key for run in shown for key in run.params}),
        "tags": sorted({key for run in shown for key in run.tags if not key.startswith("mlflow.")}),
    }
    chosen = [key[2:].partition(".") for key in query if key.startswith("c:")]
    columns = [(kind, name) for kind, _, name in chosen if name in offered.get(kind, [])]
    if not chosen:
        columns = [(kind, name) for kind in ("metrics", "params") for name in offered[kind][:SHOWN_COLUMNS]]
    charted = query.get("chart", "") if query.get("chart", "") in stepped else (stepped[0] if stepped else "")
    return {
        "offered": offered,
        "columns": columns,
        "orders": [f"{kind}.`{name}` {way}" for kind, name in columns if "`" not in name for way in ("DESC", "ASC")],
        "metrics": {run.id: {m.key: m.value for m in run.metrics} for run in shown},
        "kept": {key: value for key, value in query.items() if key != "done"},
        "curves": stepped,
        "charted": charted,
        "charted_runs": [run.id for run in shown if any(m.key == charted for m in run.metrics)][:MOST_CURVES],
    }


async def show_run(call: Call) -> Response:
    run_id = call.path["id"]

    def work(conn: Connection) -> dict[str, Any]:
        run = runs.get(conn, run_id)
        root = artifacts.run_root(run.experiment_id, run_id)
        noted = inputs.of_runs(conn, [run.num]).get(run.num, {})
        return {
            "run": run,
            "experiment": experiments.get(conn, run.experiment_id),
            "logged": logged_models.of_run(conn, run_id),
            "registered": search_versions(conn, f"run_id = '{run.id}'"),
            "datasets": [item.get("dataset", item) for item in noted.get("dataset", [])],
            "entries": artifacts.listing(conn, root),
        }

    context = await call.yard.store.read(work)
    run: Run = context["run"]
    ordered = sorted(run.metrics, key=lambda metric: metric.key)
    plain = [metric for metric in ordered if not metric.key.startswith(SYSTEM)]
    context |= {
        "metrics": plain,
        "system": [metric for metric in ordered if metric.key.startswith(SYSTEM)],
        "curves": [metric.key for metric in plain if metric.step > 0],
        "note": run.tags.get("mlflow.note.content", ""),
        "tags": sorted((key, value) for key, value in run.tags.items() if not key.startswith("mlflow.")),
        "files_at": wording.at("runs", run.id, "artifacts"),
        "prefix": "",
        "model_id": "",
    }
    return render.page(call, "run.html", **context)


async def compare(call: Call) -> Response:
    """Runs side by side: `run` once for each, as a form of check boxes sends it."""
    wanted = list(dict.fromkeys(call.request.query_params.getlist("run")))
    if not 2 <= len(wanted) <= 20:
        raise Invalid("A comparison takes 2 to 20 runs.", remedy="Tick them in an experiment's table of runs.")
    found = await call.yard.store.read(lambda conn: [runs.get(conn, run_id) for run_id in wanted])
    newest = [{metric.key: metric.value for metric in run.metrics} for run in found]
    stepped = sorted({m.key for run in found for m in run.metrics if m.step > 0 and not m.key.startswith(SYSTEM)})
    groups = [
        ("Metrics", _rows(newest)),
        ("Params", _rows([run.params for run in found])),
        ("Tags", _rows([{k: v for k, v in run.tags.items() if not k.startswith("mlflow.")} for run in found])),
    ]
    return render.page(call, "compare_runs.html", runs=found, groups=groups, curves=stepped)


def _rows(held: list[Any]) -> list[dict[str, Any]]:
    names = sorted({name for values in held for name in values})
    rows = [{"name": name, "values": [values.get(name) for values in held]} for name in names]
    return [{**row, "differs": any(value != row["values"][0] for value in row["values"])} for row in rows]


async def points(call: Call) -> Any:
    """Curves of one metric: `key`, and `runs` as ids joined by commas."""
    key = call.query.get("key", "")
    wanted = [item for item in call.query.get("runs", "").split(",") if item][:20]

    def work(conn: Connection) -> list[dict[str, Any]]:
        found = [runs.row_of(conn, run_id) for run_id in wanted]
        return [_curve(row.name, metrics.sampled(conn, row.num, key, MOST_POINTS)) for row in found]

    return {"series": await call.yard.store.read(work)}


def _curve(label: str, found: list[Any]) -> dict[str, Any]:
    return {
        "label": label,
        "step": [point.step for point in found],
        "time": [point.time for point in found],
        "value": [point.value for point in found],
    }


def _number(text: str) -> int:
    if not text.isdigit() or len(text) > 18:
        raise Invalid(
            f"{text[:40]!r} is not an experiment's number.", remedy="Choose one from the list of experiments."
        )
    return int(text)


R = Permission.RUNS_READ
ROUTES = [
    Route("GET", "/experiments", R, list_experiments),
    Route("GET", "/experiments/{id}", R, list_runs),
    Route("GET", "/runs/{id}", R, show_run),
    Route("GET", "/compare", R, compare),
    Route("GET", "/charts/metric", R, points, summary="points of curves"),
]
