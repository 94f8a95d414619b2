"""Results, and the alerts they open, group, resolve; every answer is an event with its cause."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.deliver.monitoring import alerts as kept
from modelyard.deliver.monitoring import records
from modelyard.deliver.monitoring.alerts import Alert
from modelyard.deliver.monitoring.kinds import ALERT, DATA, DRIFT, ESTIMATE, OK, QUALITY, SERVICE, WARNING
from modelyard.domain.errors import Conflict, Invalid, NotFound
from modelyard.domain.states import AlertState
from modelyard.events import audit, log
from modelyard.store.database import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'yard.db'}")
    yield opened
    opened.close()


def put(
    store: Store,
    verdict: str,
    end: int,
    kind: str = DRIFT,
    *,
    version: int = 1,
    persistence: int = 1,
    at: str = "m",
    cool_down_ms: int = 0,
    past: bool = False,
) -> str:
    result: dict[str, Any] = {
        "kind": kind,
        "version": version,
        "window_start": end - 1,
        "window_end": end,
        "rows": 100,
        "verdict": verdict,
        "title": f"{kind} until {end}",
        "detail": {"drifted": ["temp"]},
    }
    more: dict[str, Any] = {
        "actor": "monitor",
        "persistence": persistence,
        "cool_down_ms": cool_down_ms,
        "past": past,
    }
    return store.write_now(lambda conn: records.record(conn, "production", at, at, result, **more))


def alerts(store: Store, unresolved_only: bool = False) -> list[Alert]:
    return store.read_now(lambda conn: kept.find(conn, unresolved_only))


def answer(store: Store, alert: Alert, state: AlertState, note: str = "because", actor: str = "ana") -> Alert:
    return store.write_now(lambda conn: kept.answer(conn, alert.id, state, note, actor=actor))


def types(store: Store) -> list[str]:
    return [event.type for event in store.read_now(log.read)]


def test_a_good_window_is_kept_and_wakes_nobody(store: Store) -> None:
    put(store, OK, 1)
    put(store, WARNING, 2)
    kept = store.read_now(lambda conn: records.results(conn, "production", "m"))
    assert [item["verdict"] for item in kept] == [WARNING, OK]
    assert kept[0]["result"]["title"] == "drift until 2"
    assert alerts(store) == [] and types(store) == []


@pytest.mark.parametrize(("kind", "event"), [(DRIFT, "drift.detected"), (QUALITY, "quality.degraded")])
def test_an_alarm_opens_an_alert_caused_by_what_was_found(store: Store, kind: str, event: str) -> None:
    put(store, ALERT, 1, kind)
    (alert,) = alerts(store)
    assert (alert.state, alert.kind, alert.times_seen) == (AlertState.OPEN, kind, 1)
    assert alert.event_id is not None
    chain = store.read_now(lambda conn: log.causes(conn, alert.event_id or ""))
    assert [item.type for item in chain] == [event, "alert.opened"]
    assert chain[0].actor == "monitor"


def test_lost_quality_names_the_drift_before_it_as_its_cause(store: Store) -> None:
    put(store, ALERT, 1, DRIFT)
    put(store, ALERT, 2, QUALITY)
    quality = next(alert for alert in alerts(store) if alert.kind == QUALITY)
    chain = store.read_now(lambda conn: log.causes(conn, quality.event_id or ""))
    assert [item.type for item in chain] == ["drift.detected", "quality.degraded", "alert.opened"]


def test_one_cause_is_one_alert(store: Store) -> None:
    for end in (1, 2, 3):
        put(store, ALERT, end)
    (alert,) = alerts(store)
    assert alert.times_seen == 3 and alert.title == "drift until 3"
    assert types(store).count("alert.opened") == 1


def test_endpoints_have_alerts_of_their_own(store: Store) -> None:
    put(store, ALERT, 1, DRIFT)
    put(store, ALERT, 1, DRIFT, at="other")
    assert {alert.endpoint for alert in alerts(store)} == {"m", "other"}


def test_lost_quality_takes_in_the_alert_about_its_drift(store: Store) -> None:
    put(store, ALERT, 1, DRIFT)
    put(store, ALERT, 2, QUALITY)
    (alert,) = alerts(store, unresolved_only=True)
    assert alert.kind == QUALITY and alert.severity == "critical"
    assert alert.detail["also"] == {DRIFT: "drift until 1"} and alert.detail["since"] == 0
    resolved = [event for event in store.read_now(log.read) if event.type == "alert.resolved"]
    assert "taken in" in resolved[0].data["reason"]


@pytest.mark.parametrize("kind", [DRIFT, DATA, ESTIMATE])
def test_an_alert_about_quality_speaks_for_lesser_signs_of_the_same_cause(store: Store, kind: str) -> None:
    put(store, ALERT, 1, QUALITY)
    put(store, ALERT, 2, kind)
    (alert,) = alerts(store)
    assert alert.kind == QUALITY and alert.detail["also"] == {kind: f"{kind} until 2"}
    assert types(store).count("alert.opened") == 1


def test_a_slow_service_is_another_cause(store: Store) -> None:
    put(store, ALERT, 1, QUALITY)
    put(store, ALERT, 1, SERVICE)
    assert len(alerts(store, unresolved_only=True)) == 2


def test_a_muted_drift_does_not_mute_lost_quality(store: Store) -> None:
    put(store, ALERT, 1, DRIFT)
    answer(store, alerts(store)[0], AlertState.MUTED, "season")
    put(store, ALERT, 2, QUALITY)
    assert [alert.state for alert in alerts(store, unresolved_only=True)] == [AlertState.OPEN]


def test_an_alert_that_resolved_itself_does_not_flap(store: Store) -> None:
    for end, verdict in enumerate([ALERT, OK, OK, ALERT, OK, OK, ALERT], start=1):
        put(store, verdict, end, cool_down_ms=60_000)
    assert types(store).count("alert.opened") == 1
    put(store, ALERT, 8, cool_down_ms=0)
    assert types(store).count("alert.opened") == 2


def test_the_same_judgement_is_recorded_once(store: Store) -> None:
    first, second = put(store, ALERT, 1), put(store, ALERT, 1)
    assert first == second and alerts(store)[0].times_seen == 1
    assert len(store.read_now(lambda conn: records.results(conn, "production", "m"))) == 1


def test_an_alarm_that_must_persist_opens_late(store: Store) -> None:
    put(store, ALERT, 1, persistence=3)
    put(store, OK, 2, persistence=3)
    put(store, ALERT, 3, persistence=3)
    put(store, ALERT, 4, persistence=3)
    assert alerts(store) == []
    put(store, ALERT, 5, persistence=3)
    assert len(alerts(store)) == 1


def test_two_good_windows_resolve_what_nobody_has_taken(store: Store) -> None:
    put(store, ALERT, 1)
    put(store, OK, 2)
    assert alerts(store)[0].state == AlertState.OPEN
    put(store, OK, 3)
    assert alerts(store)[0].state == AlertState.RESOLVED
    assert types(store)[-1] == "alert.resolved"


def test_two_good_windows_leave_an_acknowledged_alert_to_its_owner(store: Store) -> None:
    put(store, ALERT, 1)
    answer(store, alerts(store)[0], AlertState.ACKNOWLEDGED)
    put(store, OK, 2)
    put(store, OK, 3)
    assert alerts(store)[0].state == AlertState.ACKNOWLEDGED


def test_a_muted_alert_stays_silent_and_counts(store: Store) -> None:
    put(store, ALERT, 1)
    answer(store, alerts(store)[0], AlertState.MUTED, "known holiday")
    put(store, ALERT, 2)
    (alert,) = alerts(store)
    assert (alert.state, alert.times_seen, alert.note) == (AlertState.MUTED, 2, "known holiday")
    assert types(store).count("alert.opened") == 1


def test_after_a_resolved_alert_a_new_alarm_opens_another(store: Store) -> None:
    put(store, ALERT, 1)
    answer(store, alerts(store)[0], AlertState.RESOLVED)
    put(store, ALERT, 2)
    assert sorted(alert.state for alert in alerts(store)) == [AlertState.OPEN, AlertState.RESOLVED]
    assert len(alerts(store, unresolved_only=True)) == 1


ANSWERS = [
    (AlertState.ACKNOWLEDGED, "alert.acknowledged"),
    (AlertState.MUTED, "alert.muted"),
    (AlertState.RESOLVED, "alert.resolved"),
]


@pytest.mark.parametrize(("state", "event"), ANSWERS)
def test_every_answer_is_an_event_by_its_author(store: Store, state: AlertState, event: str) -> None:
    put(store, ALERT, 1)
    answered = answer(store, alerts(store)[0], state, "I know why", actor="ben")
    last = store.read_now(log.read)[-1]
    assert answered.state == state and answered.note == "I know why"
    assert (last.type, last.actor, last.cause) == (event, "ben", answered.event_id)
    assert last.data["reason"] == "I know why"


def test_muting_needs_a_reason(store: Store) -> None:
    put(store, ALERT, 1)
    with pytest.raises(Invalid, match="reason"):
        answer(store, alerts(store)[0], AlertState.MUTED, "  ")
    assert alerts(store)[0].state == AlertState.OPEN


@pytest.mark.parametrize("state", [AlertState.ACKNOWLEDGED, AlertState.MUTED, AlertState.RESOLVED])
def test_a_resolved_alert_is_final(store: Store, state: AlertState) -> None:
    put(store, ALERT, 1)
    answer(store, alerts(store)[0], AlertState.RESOLVED)
    with pytest.raises(Conflict):
        answer(store, alerts(store)[0], state)


def test_an_alert_is_found_by_the_start_of_its_id(store: Store) -> None:
    put(store, ALERT, 1)
    (alert,) = alerts(store)
    assert store.read_now(lambda conn: kept.get(conn, alert.id[:8])) == alert
    for unknown in ("nothing-like-it", "%", "_"):
        with pytest.raises(NotFound):
            store.read_now(lambda conn, unknown=unknown: kept.get(conn, unknown))


@pytest.mark.parametrize(("kind", "verdict"), [("weather", ALERT), (DRIFT, "dreadful")])
def test_what_is_not_a_result_is_refused_whole(store: Store, kind: str, verdict: str) -> None:
    with pytest.raises(Invalid):
        put(store, verdict, 1, kind)
    assert store.read_now(lambda conn: records.results(conn, "production", "m")) == [] and types(store) == []


def test_the_chain_holds_over_all_of_it(store: Store) -> None:
    for end, verdict in enumerate([ALERT, OK, ALERT, ALERT, OK, OK, ALERT], start=1):
        put(store, verdict, end)
        put(store, verdict, end, QUALITY)
    assert store.read_now(audit.verify).intact


def test_labelled_rows_that_were_judged_afterwards_are_no_news(store: Store) -> None:
    put(store, OK, 1000, QUALITY, past=True)
    put(store, OK, 2000, QUALITY)
    counted = store.read_now(lambda conn: records.labelled_rows(conn, "production", "m"))
    assert sorted(counted)[0] == (1000, 100) and sorted(counted)[1][0] > 1_600_000_000_000
