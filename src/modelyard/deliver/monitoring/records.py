"""Monitors' results as the database holds them; an alarm that persists opens an alert or joins one."""

from typing import Any

from sqlalchemy import Connection, func, insert, select

from modelyard.deliver.monitoring import alerts
from modelyard.deliver.monitoring.kinds import ALERT, EVENTS, OK, QUALITY, VERDICTS
from modelyard.domain.errors import Invalid
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id
from modelyard.store.tables.monitoring import monitor_results

KEYS = ("version", "kind", "window_start", "window_end", "rows", "verdict")


def record(
    conn: Connection,
    environment: str,
    endpoint: str,
    model: str,
    result: dict[str, Any],
    *,
    actor: str,
    persistence: int,
    cool_down_ms: int = 0,
    past: bool = False,
) -> str:
    """The result's id; the same judgement of the same window is recorded once. An alarm that persists opens an alert
    or joins one; two good windows in a row resolve what nobody has taken. past: it is history, nothing follows.
    """
    verdict, kind = result["verdict"], result["kind"]
    if verdict not in VERDICTS or kind not in EVENTS:
        raise Invalid(f"{kind}/{verdict} is not a monitor's result.")
    held = _same(conn, environment, endpoint, result)
    if held is not None:
        return held
    result_id, now = new_id(), now_ms()
    conn.execute(
        insert(monitor_results).values(
            id=result_id,
            environment=environment,
            endpoint=endpoint,
            model=model,
            created_at=min(now, result["window_end"]) if past else now,
            result={"title": result["title"], **result["detail"]},
            **{key: result[key] for key in KEYS},
        )
    )
    if past:
        return result_id
    newest = _by_window(results(conn, environment, endpoint, kind, 4 * max(persistence, 2)))
    if verdict == OK and len(newest) > 1 and all(item["verdict"] == OK for item in newest[:2]):
        alerts.resolve_good(conn, environment, endpoint, kind)
    if verdict != ALERT:
        return result_id
    event = _alarm(conn, environment, endpoint, model, result, result_id, actor)
    streak = [item for item in newest[:persistence] if item["verdict"] == ALERT]
    if len(streak) >= persistence:
        since = streak[-1]["window_start"]
        alerts.raise_alert(conn, environment, endpoint, model, result, event, since, cool_down_ms)
    return result_id


def _same(conn: Connection, environment: str, endpoint: str, result: dict[str, Any]) -> str | None:
    """The id of an earlier record of the same judgement: a monitor run may be repeated after a crash."""
    table = monitor_results
    query = select(table.c.id).where(table.c.environment == environment, table.c.endpoint == endpoint)
    for key in KEYS:
        query = query.where(table.c[key] == result[key])
    return conn.execute(query.limit(1)).scalar()


def _alarm(
    conn: Connection,
    environment: str,
    endpoint: str,
    model: str,
    result: dict[str, Any],
    result_id: str,
    actor: str,
) -> log.Event:
    """The alarm's event; what was lost names the drift before it as its cause."""
    kind, subject = result["kind"], f"endpoint/{environment}/{endpoint}"
    data = {
        "environment": environment,
        "model": model,
        "version": result["version"],
        "title": result["title"],
        "result": result_id,
        "rows": result["rows"],
        "drifted": result["detail"].get("drifted", []),
    }
    cause = None
    if kind == QUALITY:
        drifts = log.read(conn, types=["drift.detected"], subject=subject, limit=1, newest_first=True)
        cause = drifts[0].id if drifts and drifts[0].data["version"] == result["version"] else None
    return log.append(conn, EVENTS[kind], subject, actor, data, cause=cause)


def results(
    conn: Connection, environment: str, endpoint: str, kind: str | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """A monitor's results, newest window first."""
    table = monitor_results
    query = select(table).where(table.c.environment == environment, table.c.endpoint == endpoint)
    if kind is not None:
        query = query.where(table.c.kind == kind)
    query = query.order_by(table.c.window_end.desc(), table.c.created_at.desc()).limit(limit)
    return [dict(row._mapping) for row in conn.execute(query)]  # pyright: ignore[reportPrivateUsage]


def labelled_rows(conn: Connection, environment: str, endpoint: str) -> list[tuple[int, int]]:
    """(when it was first judged, labelled rows) of every window of an endpoint, each counted once.

    One that was judged afterwards, as history, counts from its end on: its rows are no news.
    """
    table = monitor_results
    query = select(func.min(table.c.created_at), func.max(table.c.rows)).where(
        table.c.environment == environment, table.c.endpoint == endpoint, table.c.kind == QUALITY
    )
    query = query.group_by(table.c.version, table.c.window_start, table.c.window_end)
    return [(row[0], row[1]) for row in conn.execute(query)]


def _by_window(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The newest judgement of each window, newest window first."""
    windows: dict[tuple[int, int], dict[str, Any]] = {}
    for item in found:
        windows.setdefault((item["window_start"], item["window_end"]), item)
    return list(windows.values())
