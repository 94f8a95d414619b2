"""Monitors and alerts over the native API: who may report, read and answer, and what follows at once."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from modelyard.client.api import Client
from modelyard.client.transport import InProcessTransport
from modelyard.deliver.monitoring import alerts, answers
from modelyard.domain.errors import Conflict, Forbidden, Invalid, NotFound
from modelyard.events import audit, log
from modelyard.governance import principals, tokens
from modelyard.kit.clock import now_ms
from modelyard.server.app import Embedded
from modelyard.server.bootstrap import open_yard
from modelyard.server.pages.endpoints import picture
from modelyard.server.settings import Settings
from modelyard.server.yard import Yard
from modelyard.store.tables.delivery import endpoints
from modelyard.store.tables.events import jobs

PROJECT = """
[project]
name = "flights"

[models.m]
task = "binary"
pipeline = "pipeline.py:train"

[models.m.monitor]
window = { rows = 1000 }
persistence = 2
on_alert = ["notify:team", "retrain"]

[notify.team]
url = "json://127.0.0.1/hook"
"""
HOUR_MS = 3_600_000
RESULTS = "/api/v1/environments/production/endpoints/m/monitor-results"


class House:
    """A yard with one endpoint, and clients of its people and services."""

    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        self.transport = InProcessTransport(Embedded(yard))

    def client(self, name: str, role: str) -> Client:
        def work(conn: Any) -> str:
            if principals.find(conn, name) is None:
                principals.create(conn, name, "person", [role], actor="owner")
            return tokens.issue(conn, name, actor="owner")

        return Client(self.transport, self.yard.store.write_now(work))

    @property
    def monitor(self) -> Client:
        return self.client("monitor", "service-monitor")

    @property
    def operator(self) -> Client:
        return self.client("olga", "mlops")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    (tmp_path / "modelyard.toml").write_text(PROJECT)
    yard = open_yard(tmp_path / ".modelyard", tmp_path, Settings(loops=False))
    place = {"environment": "production", "name": "m", "model": "m", "updated_at": now_ms()}
    yard.store.write_now(lambda conn: conn.execute(insert(endpoints).values(**place)))
    opened = House(yard)
    yield opened
    opened.transport.close()
    yard.store.close()


def found(verdict: str, end: int, kind: str = "model_quality") -> dict[str, Any]:
    return {
        "kind": kind,
        "version": 1,
        "window_start": end - 1,
        "window_end": end,
        "rows": 1000,
        "verdict": verdict,
        "title": "roc_auc fell by 0.06",
        "detail": {"value": 0.64},
    }


def report(client: Client, *results: dict[str, Any]) -> list[str]:
    return client.call("POST", RESULTS, body={"results": list(results)})["ids"]


def test_results_come_back_newest_window_first(house: House) -> None:
    ids = report(house.monitor, found("ok", 1), found("warning", 2))
    kept = house.operator.call("GET", RESULTS)["results"]
    assert [item["id"] for item in kept] == ids[::-1]
    assert kept[0]["result"]["value"] == 0.64 and kept[0]["verdict"] == "warning"
    assert house.operator.call("GET", RESULTS, query={"kind": "drift"})["results"] == []


def test_an_alarm_that_persists_notifies_and_retrains_at_once(house: House) -> None:
    report(house.monitor, found("alert", 1))
    assert house.operator.call("GET", "/api/v1/alerts")["alerts"] == []
    report(house.monitor, found("alert", 2))
    (alert,) = house.operator.call("GET", "/api/v1/alerts")["alerts"]
    assert alert["state"] == "open" and alert["severity"] == "critical"
    kinds = house.yard.store.read_now(lambda conn: sorted(conn.execute(select(jobs.c.kind)).scalars()))
    assert kinds == ["notify", "pipeline"]


def test_the_whole_chain_is_one_query(house: House) -> None:
    report(house.monitor, found("alert", 1, "drift"), found("alert", 1), found("alert", 2))
    store = house.yard.store
    (triggered,) = store.read_now(lambda conn: log.read(conn, types=["retrain.triggered"]))
    chain = [event.type for event in store.read_now(lambda conn: log.causes(conn, triggered.id))]
    assert chain == ["drift.detected", "quality.degraded", "alert.opened", "retrain.triggered"]
    assert store.read_now(audit.verify).intact


def test_an_alert_is_taken_and_closed(house: House) -> None:
    report(house.monitor, found("alert", 1), found("alert", 2))
    operator = house.operator
    (alert,) = operator.call("GET", "/api/v1/alerts")["alerts"]
    place = f"/api/v1/alerts/{alert['id']}"
    taken = operator.call("POST", f"{place}/acknowledge", body={"note": "on it"})
    assert (taken["state"], taken["acknowledged_by"], taken["note"]) == ("acknowledged", "olga", "on it")
    assert operator.call("POST", f"{place}/resolve", body={})["resolved_at"] is not None
    assert operator.call("GET", "/api/v1/alerts")["alerts"] == []
    assert [item["id"] for item in operator.call("GET", "/api/v1/alerts", query={"all": "true"})["alerts"]] == [
        alert["id"]
    ]
    with pytest.raises(Conflict):
        operator.call("POST", f"{place}/mute", body={"note": "late"})


def test_what_cannot_be_done_is_said(house: House) -> None:
    report(house.monitor, found("alert", 1), found("alert", 2))
    operator = house.operator
    (alert,) = operator.call("GET", "/api/v1/alerts")["alerts"]
    with pytest.raises(Invalid, match="reason"):
        operator.call("POST", f"/api/v1/alerts/{alert['id']}/mute", body={})
    with pytest.raises(Invalid, match="forget"):
        operator.call("POST", f"/api/v1/alerts/{alert['id']}/forget", body={})
    with pytest.raises(NotFound):
        operator.call("GET", "/api/v1/alerts/0123456789")
    with pytest.raises(NotFound):
        house.monitor.call("POST", RESULTS.replace("/m/", "/nowhere/"), body={"results": [found("ok", 1)]})


@pytest.mark.parametrize(
    "role", ["data-scientist", "ml-engineer", "mlops", "approver", "auditor", "service-pipeline"]
)
def test_only_the_monitor_reports(house: House, role: str) -> None:
    with pytest.raises(Forbidden):
        report(house.client(f"a-{role}", role), found("ok", 1))


@pytest.mark.parametrize("role", ["data-scientist", "approver", "auditor", "service-monitor"])
def test_readers_see_alerts_and_do_not_answer_them(house: House, role: str) -> None:
    report(house.monitor, found("alert", 1), found("alert", 2))
    reader = house.client(f"a-{role}", role)
    (alert,) = reader.call("GET", "/api/v1/alerts")["alerts"]
    with pytest.raises(Forbidden):
        reader.call("POST", f"/api/v1/alerts/{alert['id']}/resolve", body={})


def test_one_bad_result_leaves_nothing_of_its_report(house: House) -> None:
    with pytest.raises(Invalid):
        report(house.monitor, found("alert", 1), found("alert", 2), found("dreadful", 3))
    assert house.operator.call("GET", RESULTS)["results"] == []
    assert house.operator.call("GET", "/api/v1/alerts")["alerts"] == []


def test_what_is_filled_in_later_is_recorded_and_leads_to_nothing(house: House) -> None:
    result = {"kind": "model_quality", "version": 1, "window_start": 1, "window_end": 2, "rows": 1000}
    results = [{**result, "window_end": end, "verdict": "alert", "title": "lost", "detail": {}} for end in (2, 3, 4)]
    house.monitor.call("POST", RESULTS, body={"results": results, "past": True})
    assert len(house.monitor.call("GET", RESULTS)["results"]) == 3
    assert not house.monitor.call("GET", "/api/v1/alerts")["alerts"]


def test_alerts_have_the_shape_of_alertmanager(house: House) -> None:
    report(house.monitor, found("alert", 1), found("alert", 2))
    (alert,) = house.operator.call("GET", "/api/v1/alerts")["alerts"]
    (told,) = house.operator.call("GET", "/api/v2/alerts")
    assert told["labels"]["alertname"] == "model_quality" and told["labels"]["severity"] == "critical"
    assert told["annotations"]["summary"] == alert["title"] and told["status"]["state"] == "active"
    for moment in ("startsAt", "updatedAt", "endsAt"):
        datetime.fromisoformat(told[moment])
    house.operator.call("POST", f"/api/v1/alerts/{alert['id']}/mute", body={"note": "known"})
    (muted,) = house.operator.call("GET", "/api/v2/alerts")
    assert muted["status"] == {"state": "suppressed", "silencedBy": ["known"], "inhibitedBy": []}


def test_the_drawings_of_an_alert_go_with_its_notification(house: House) -> None:
    drawn = {"temp": "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'></svg>"}
    moved = found("alert", 1, "drift") | {"detail": {"drifted": ["temp"], "pictures": drawn}}
    report(house.monitor, moved, found("alert", 1), found("alert", 2))
    (alert,) = house.operator.call("GET", "/api/v1/alerts")["alerts"]
    read = house.yard.store.read_now
    pictures = read(lambda conn: answers.pictures(conn, alerts.get(conn, alert["id"])))
    assert alert["kind"] == "model_quality" and pictures == drawn
    (payload,) = read(
        lambda conn: list(conn.execute(select(jobs.c.payload).where(jobs.c.kind == "notify")).scalars())
    )
    assert payload["data"]["alert"] == alert["id"], "what the notification looks the drawings up by"


def quality(end: int, **more: Any) -> dict[str, Any]:
    return {"window_end": end, "verdict": "ok", "result": {"metric": "rmse", "value": 1.0, "baseline": 1.0, **more}}


def test_windows_of_one_day_are_told_apart_by_the_hour_and_others_by_the_day() -> None:
    one, _ = picture("model_quality", [quality(9 * HOUR_MS), quality(8 * HOUR_MS)])
    several, _ = picture("model_quality", [quality(33 * HOUR_MS), quality(8 * HOUR_MS)])
    assert ">08:00<" in str(one) and ">01-02<" in str(several)


def test_what_a_line_is_compared_with_is_named() -> None:
    assert "as registered" in str(picture("model_quality", [quality(HOUR_MS)])[0])
    own = quality(HOUR_MS, against="its first labelled window")
    assert "its first labelled window" in str(picture("model_quality", [own])[0])
