"""MLflow's metric histories: whole, of several runs, and sampled for charts."""

from typing import Any

import msgspec
from sqlalchemy import Connection

from modelyard.build.tracking import metrics, runs
from modelyard.build.tracking.metrics import Metric
from modelyard.domain.errors import Invalid
from modelyard.domain.permissions import Permission
from modelyard.server.mlflow_rest import wire
from modelyard.server.mlflow_rest.runs import run_id_in
from modelyard.server.mlflow_rest.table import pair
from modelyard.server.routes import Call, Route
from modelyard.store.filters import read_token

MOST_POINTS, MOST_RUNS, MOST_SAMPLED = 25_000, 100, 2500


async def history(call: Call) -> Any:
    body = call.query
    run_id, key = run_id_in(body), wire.text(body, "metric_key")
    limit = wire.whole(body, "max_results") if body.get("max_results") else None
    if limit is not None and limit <= 0:
        raise Invalid(f"Invalid value {limit} for parameter 'max_results' supplied. It must be a positive integer.")
    at = read_token(wire.text(body, "page_token", ""))

    def work(conn: Connection) -> list[Metric]:
        run = runs.row_of(conn, run_id).num
        return metrics.history(conn, run, key, None if limit is None else limit + 1, at.offset)

    found = [wire.metric(point) for point in await call.yard.store.read(work)]
    return {"metrics": found} if limit is None else wire.paged("metrics", found, limit, at)


async def bulk(call: Call) -> Any:
    body, run_ids = call.query, call.request.query_params.getlist("run_id")
    if not run_ids:
        raise Invalid("GetMetricHistoryBulk request must specify at least one run_id.")
    _check_count("GetMetricHistoryBulk request cannot specify more than", run_ids)
    if "metric_key" not in body:
        raise Invalid("GetMetricHistoryBulk request must specify a metric_key.")
    key, limit = wire.text(body, "metric_key"), min(wire.whole(body, "max_results", MOST_POINTS), MOST_POINTS)
    found = await call.yard.store.read(lambda conn: metrics.bulk_history(conn, run_ids, key, limit))
    return {"metrics": [wire.metric(point) for point in found]}


async def bulk_interval(call: Call) -> Any:
    body = wire.fields(call)
    run_ids, key = wire.texts(body, "run_ids"), wire.text(body, "metric_key")
    if not run_ids:
        raise wire.missing("run_ids")
    _check_count("GetMetricHistoryBulkInterval request must specify at most", run_ids)
    most = wire.whole(body, "max_results", MOST_SAMPLED)
    if not 1 <= most <= MOST_SAMPLED:
        raise Invalid(f"max_results must be between 1 and {MOST_SAMPLED}.", remedy=wire.DOCS)
    start, end = (
        wire.whole(body, name) if body.get(name) not in (None, "") else None for name in ("start_step", "end_step")
    )
    metrics.check_interval(start, end)

    def work(conn: Connection) -> list[wire.Point]:
        numbers = {run_id: runs.row_of(conn, run_id).num for run_id in run_ids}
        return [
            wire.metric(msgspec.structs.replace(point, run_id=run_id))
            for run_id in run_ids
            for point in metrics.sampled(conn, numbers[run_id], key, most, start, end)
        ]

    return {"metrics": await call.yard.store.read(work)}


def _check_count(what: str, run_ids: list[str]) -> None:
    if len(run_ids) > MOST_RUNS:
        raise Invalid(f"{what} {MOST_RUNS} run_ids. Received {len(run_ids)} run_ids.", remedy=wire.DOCS)


R = Permission.RUNS_READ
ROUTES: list[Route] = [
    *pair("GET", "mlflow/metrics/get-history", R, history),
    *pair("GET", "mlflow/metrics/get-history-bulk", R, bulk),
    *pair("GET", "mlflow/metrics/get-history-bulk-interval", R, bulk_interval),
]
