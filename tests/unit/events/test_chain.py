"""The hash chain: any change, removal or reordering of a record is found, and named."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, select, update

from modelyard.domain.errors import Invalid
from modelyard.events import audit, log
from modelyard.events.dispatch import Dispatcher
from modelyard.store.database import Store
from modelyard.store.tables.events import events


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'yard.db'}")
    yield opened
    opened.close()


def fill(conn: Connection, count: int = 10) -> list[log.Event]:
    return [log.append(conn, "run.created", f"run/{n}", "ana", {"n": n, "share": 0.1}) for n in range(count)]


def test_an_untouched_chain_is_intact(store: Store) -> None:
    store.write_now(fill)
    found = store.read_now(audit.verify)
    assert found.intact and found.records == 10


def test_an_empty_chain_is_intact(store: Store) -> None:
    assert store.read_now(audit.verify).intact


CHANGES: list[dict[str, Any]] = [
    {"actor": "mallory"},
    {"data": {"n": 99}},
    {"type": "run.ended"},
    {"subject": "run/x"},
    {"time": 1},
    {"cause": "c"},
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_record_is_named(store: Store, change: dict[str, Any]) -> None:
    store.write_now(fill)
    store.write_now(lambda conn: conn.execute(update(events).where(events.c.seq == 4).values(**change)))
    assert store.read_now(audit.verify).broken_at == 4


def test_a_removed_record_is_found_at_its_successor(store: Store) -> None:
    store.write_now(fill)
    store.write_now(lambda conn: conn.execute(delete(events).where(events.c.seq == 4)))
    assert store.read_now(audit.verify).broken_at == 5


def test_a_recomputed_record_breaks_its_successor(store: Store) -> None:
    """Whoever rewrites a record and its digest must rewrite all that follow."""
    made = store.write_now(fill)
    body = {
        "id": made[3].id,
        "time": made[3].time,
        "type": made[3].type,
        "subject": made[3].subject,
        "actor": "mallory",
        "cause": None,
        "data": made[3].data,
    }
    forged = log.chain_hash(made[3].prev_hash, body)
    store.write_now(
        lambda conn: conn.execute(update(events).where(events.c.seq == 4).values(actor="mallory", hash=forged))
    )
    assert store.read_now(audit.verify).broken_at == 5


def test_an_event_outside_the_catalogue_is_refused(store: Store) -> None:
    with pytest.raises(Invalid, match="catalogue"):
        store.write_now(lambda conn: log.append(conn, "something.odd", "x", "ana"))


def test_the_chain_of_causes_is_followed_both_ways(store: Store) -> None:
    def work(conn: Connection) -> list[str]:
        cause, ids = None, []
        for kind in ("drift.detected", "alert.opened", "retrain.triggered", "version.registered"):
            cause = log.append(conn, kind, "x", "modelyard", cause=cause).id
            ids.append(cause)
        return ids

    ids = store.write_now(work)
    assert [event.id for event in store.read_now(lambda conn: log.causes(conn, ids[-1]))] == ids
    assert [event.id for event in store.read_now(lambda conn: log.consequences(conn, ids[0]))] == ids[1:]


def test_a_subscriber_sees_each_event_once_and_its_failure_loses_none(store: Store) -> None:
    store.write_now(fill)
    seen: list[int] = []
    dispatcher = Dispatcher()

    def handler(conn: Connection, event: log.Event) -> None:
        if event.data["n"] == 5 and 5 not in seen:
            seen.append(5)
            raise ValueError("once")
        log.append(conn, "run.ended", event.subject, "modelyard", cause=event.id)

    dispatcher.subscribe("ender", ["run.created"], handler)
    with pytest.raises(ValueError, match="once"):
        store.write_now(lambda conn: dispatcher.run_pending(conn, "ender"))
    while store.write_now(lambda conn: dispatcher.run_pending(conn, "ender")):
        pass
    ended = store.read_now(lambda conn: log.read(conn, types=["run.ended"]))
    assert [event.subject for event in ended] == [f"run/{n}" for n in range(10)]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.dictionaries(st.text(), json_values, max_size=5))
def test_any_json_data_survives_storage_with_its_digest(store: Store, data: dict[str, Any]) -> None:
    store.write_now(lambda conn: log.append(conn, "run.created", "run/1", "ana", data))
    assert store.read_now(audit.verify).intact
    newest = store.read_now(lambda conn: conn.execute(select(events.c.data).order_by(events.c.seq.desc())).first())
    assert newest is not None and newest[0] == data
