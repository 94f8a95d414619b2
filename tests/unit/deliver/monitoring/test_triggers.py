"""What an alert leads to: notices, and retraining within its cool-down and budget; or the reason why not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from modelyard.deliver.monitoring import alerts, records, triggers
from modelyard.deliver.monitoring.kinds import ALERT, DRIFT, OK, QUALITY
from modelyard.domain.project import Project, parse_project
from modelyard.domain.states import AlertState
from modelyard.events import log
from modelyard.events.dispatch import Dispatcher
from modelyard.kit.clock import now_ms
from modelyard.store.database import Store
from modelyard.store.tables.events import jobs
from modelyard.store.tables.monitoring import monitor_results

HOUR, DAY = 3_600_000, 86_400_000
POLICY = """
[project]
name = "flights"

[models.m]
task = "binary"
pipeline = "pipeline.py:train"

[models.m.monitor]
on_alert = ["notify:team", "retrain"]

[models.m.monitor.retrain]
cool_down = "1h"
budget_per_week = 3
params = { learning_rate = 0.05 }

[models.unwatched]
task = "binary"

[notify.team]
url = "json://127.0.0.1/hook"
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'yard.db'}")
    yield opened
    opened.close()


@pytest.fixture
def project() -> Project:
    return parse_project(POLICY)


def put(store: Store, kind: str, verdict: str, end: int, model: str = "m", version: int = 1) -> None:
    result: dict[str, Any] = {
        "kind": kind,
        "version": version,
        "window_start": 0,
        "window_end": end,
        "rows": 100,
        "verdict": verdict,
        "title": "it moved",
        "detail": {},
    }
    store.write_now(
        lambda conn: records.record(conn, "production", model, model, result, actor="monitor", persistence=1)
    )


def run(store: Store, project: Project) -> None:
    dispatcher = Dispatcher()
    triggers.subscribe(dispatcher, project)
    for name in dispatcher.subscribers:
        while store.write_now(lambda conn, name=name: dispatcher.run_pending(conn, name)):
            pass


def enqueued(store: Store, kind: str) -> list[Any]:
    query = select(jobs).where(jobs.c.kind == kind).order_by(jobs.c.created_at)
    return store.read_now(lambda conn: list(conn.execute(query)))


def events(store: Store, *types: str) -> list[log.Event]:
    return store.read_now(lambda conn: log.read(conn, types=types))


def retrained(store: Store, ago_ms: int) -> None:
    store.write_now(
        lambda conn: log.append(
            conn, "retrain.triggered", "model/m", "modelyard", {"model": "m"}, time=now_ms() - ago_ms
        )
    )


def test_an_alert_notifies_and_retrains(store: Store, project: Project) -> None:
    put(store, QUALITY, ALERT, 1)
    run(store, project)
    (notice,), (training,) = enqueued(store, "notify"), enqueued(store, "pipeline")
    assert notice.payload["channel"] == "team" and notice.payload["type"] == "alert.opened"
    assert training.payload == {"pipeline": "pipeline.py:train", "params": {"learning_rate": 0.05}}
    chain = store.read_now(lambda conn: log.causes(conn, training.cause))
    assert [event.type for event in chain] == ["quality.degraded", "alert.opened", "retrain.triggered"]


def test_an_event_is_handled_once(store: Store, project: Project) -> None:
    put(store, QUALITY, ALERT, 1)
    run(store, project)
    run(store, project)
    assert len(enqueued(store, "pipeline")) == len(enqueued(store, "notify")) == 1


@pytest.mark.parametrize(("ago_ms", "expected"), [(HOUR // 2, 0), (2 * HOUR, 1)])
def test_the_cool_down_holds_and_ends(store: Store, project: Project, ago_ms: int, expected: int) -> None:
    retrained(store, ago_ms)
    put(store, QUALITY, ALERT, 1)
    run(store, project)
    assert len(enqueued(store, "pipeline")) == expected
    skipped = events(store, "retrain.skipped")
    assert len(skipped) == 1 - expected
    if skipped:
        assert "1h" in skipped[0].data["reason"]
        assert skipped[0].cause == events(store, "alert.opened")[0].id


@pytest.mark.parametrize(("ages", "expected"), [((2, 3, 4), 0), ((2, 3, 8), 1)])
def test_the_weekly_budget_holds_and_renews(
    store: Store, project: Project, ages: tuple[int, ...], expected: int
) -> None:
    for days in sorted(ages, reverse=True):
        retrained(store, days * DAY)
    put(store, QUALITY, ALERT, 1)
    run(store, project)
    assert len(enqueued(store, "pipeline")) == expected
    if not expected:
        assert "budget of 3" in events(store, "retrain.skipped")[0].data["reason"]


def test_a_model_without_a_pipeline_says_so(store: Store) -> None:
    bare = parse_project(POLICY.replace('pipeline = "pipeline.py:train"', ""))
    put(store, QUALITY, ALERT, 1)
    run(store, bare)
    assert enqueued(store, "pipeline") == []
    assert "no pipeline" in events(store, "retrain.skipped")[0].data["reason"]


def test_drift_alone_retrains_only_where_quality_is_not_measured(store: Store, project: Project) -> None:
    put(store, DRIFT, ALERT, 1)
    run(store, project)
    assert len(enqueued(store, "pipeline")) == 1


def test_drift_does_not_retrain_while_measured_quality_is_good(store: Store, project: Project) -> None:
    put(store, QUALITY, OK, 1)
    put(store, DRIFT, ALERT, 2)
    run(store, project)
    assert enqueued(store, "pipeline") == []
    assert "quality decides" in events(store, "retrain.skipped")[0].data["reason"]
    assert len(enqueued(store, "notify")) == 1


def test_models_without_a_policy_are_left_alone(store: Store, project: Project) -> None:
    put(store, QUALITY, ALERT, 1, model="unwatched")
    put(store, QUALITY, ALERT, 1, model="undeclared")
    run(store, project)
    assert enqueued(store, "pipeline") == enqueued(store, "notify") == []


def test_actions_are_those_declared(store: Store) -> None:
    quiet = parse_project(POLICY.replace('["notify:team", "retrain"]', '["notify:team"]'))
    put(store, QUALITY, ALERT, 1)
    run(store, quiet)
    assert enqueued(store, "pipeline") == [] and len(enqueued(store, "notify")) == 1


NOTICES = ["approval.requested", "gates.failed", "rollout.aborted", "rollout.paused"]


@pytest.mark.parametrize("kind", NOTICES)
def test_what_waits_for_a_person_is_told(store: Store, project: Project, kind: str) -> None:
    data = {"model": "m", "version": 2, "environment": "production"}
    made = store.write_now(lambda conn: log.append(conn, kind, "version/m/2", "modelyard", data))
    run(store, project)
    (notice,) = enqueued(store, "notify")
    assert notice.payload["type"] == kind and notice.cause == made.id
    assert enqueued(store, "pipeline") == []


def test_a_new_champion_resolves_the_alerts_of_the_one_before(store: Store, project: Project) -> None:
    put(store, QUALITY, ALERT, 1, version=1)
    put(store, QUALITY, ALERT, 1, model="unwatched", version=1)
    data = {"environment": "production", "model": "m", "version": 2}
    done = store.write_now(lambda conn: log.append(conn, "rollout.completed", "endpoint/production/m", "x", data))
    run(store, project)
    states = {alert.model: alert.state for alert in store.read_now(alerts.find)}
    assert states == {"m": AlertState.RESOLVED, "unwatched": AlertState.OPEN}
    assert events(store, "alert.resolved")[0].cause == done.id


@pytest.mark.parametrize(("rows", "expected"), [(4, 0), (6, 1)])
def test_a_quarter_more_to_learn_from_retrains(store: Store, rows: int, expected: int) -> None:
    project = parse_project(POLICY.replace("[models.m.monitor.retrain]", "[models.m.monitor.retrain]\ngrowth = 0.25"))
    for number in range(20):
        put(store, QUALITY, OK, number)
    store.write_now(lambda conn: conn.execute(update(monitor_results).values(created_at=now_ms() - 2 * HOUR)))
    retrained(store, 90 * 60_000)
    data = {"environment": "production", "endpoint": "m", "model": "m", "results": [{"kind": QUALITY, "version": 1}]}
    for number in range(20, 20 + rows):
        put(store, QUALITY, OK, number)
    store.write_now(lambda conn: log.append(conn, "monitor.evaluated", "endpoint/production/m", "monitor", data))
    run(store, project)
    assert len(enqueued(store, "pipeline")) == expected


def test_what_no_channel_took_is_sent_again_once(store: Store, project: Project) -> None:
    put(store, QUALITY, ALERT, 1)
    run(store, project)
    (notice,) = enqueued(store, "notify")
    assert store.write_now(triggers.resend) == []

    def end(kind: str) -> None:
        store.write_now(lambda conn: conn.execute(update(jobs).values(state="done")))
        told = {"channel": "team", "about": "alert.opened"}
        store.write_now(lambda conn: log.append(conn, kind, "alert/x", "modelyard", told, cause=notice.cause))

    end("notification.failed")
    assert store.write_now(triggers.resend) == [{"channel": "team", "about": "alert.opened"}]
    assert store.write_now(triggers.resend) == []  # it waits already
    assert enqueued(store, "notify")[1].payload == notice.payload
    end("notification.sent")
    assert store.write_now(triggers.resend) == []
