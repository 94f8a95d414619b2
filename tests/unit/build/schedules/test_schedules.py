"""Declared pipelines: due by the clock, by events and by data; limits; backfills. In a real database."""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from modelyard.build.schedules import backfills, by_data, by_event, clock, starts, turns
from modelyard.build.schedules.backfills import Range
from modelyard.build.schedules.starts import Ask, Start
from modelyard.build.tracking import pipeline_runs
from modelyard.domain.errors import ConfigError, Conflict, Invalid, NotFound
from modelyard.domain.project import Project, parse_project
from modelyard.events import log
from modelyard.events.dispatch import Dispatcher
from modelyard.kit.clock import now_ms
from modelyard.store.database import Store

HOUR = 3_600_000
DAILY = '[pipelines.p.schedule]\ncron = "0 * * * *"\n'


def project(text: str = "", above: str = "") -> Project:
    return parse_project(f'[project]\nname = "t"\n[pipelines.p]\npipeline = "pipeline.py:main"\n{above}\n{text}')


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'yard.db'}")
    yield opened
    opened.close()


def declared(store: Store, made: Project) -> int:
    """The pipeline's first moment, after the project was declared."""
    store.write_now(lambda conn: clock.declare(conn, made))
    return store.read_now(lambda conn: clock.state(conn, "p").next_at)


def newest(store: Store) -> list[Start]:
    return store.read_now(lambda conn: starts.newest(conn, "p"))


def states(store: Store) -> list[str]:
    """Oldest first."""
    return [start.state for start in sorted(newest(store), key=lambda start: (start.asked_at, start.at))]


def ask(store: Store, made: Project, slot: str, **more: Any) -> Start | None:
    wish = Ask(starts.HAND, slot, now_ms(), **more)
    return store.write_now(lambda conn: starts.ask(conn, "p", made.pipelines["p"], wish))


def run_all(store: Store, made: Project, *, failing: str = "") -> None:
    """Let every start have its turn and end at once."""
    while store.write_now(lambda conn: turns.release(conn, made)):
        for start in [each for each in newest(store) if each.state == starts.READY]:
            store.write_now(lambda conn, start=start: starts.begin(conn, start.id))
            error = "broken" if failing and failing in str(start.params) else None
            store.write_now(lambda conn, start=start, error=error: starts.finish(conn, start.id, error))


@pytest.mark.parametrize(
    ("misfire", "late", "expected"),
    [
        ("once", 5 * HOUR + 1, [5]),
        ("once", 5 * HOUR + 600_000, [5]),
        ("skip", 5 * HOUR + 1, [5]),
        ("skip", 5 * HOUR + 600_000, []),
        ("all", 5 * HOUR + 600_000, [3, 4, 5]),
        ("all", 5 * HOUR + 1, [2, 3, 4, 5]),
    ],
)
def test_a_server_that_was_away_makes_up_for_what_the_policy_says(
    store: Store, misfire: str, late: int, expected: list[int]
) -> None:
    """Away over the moments 0 to 5 hours after the first; with `most = 3`."""
    made = project(DAILY + f'misfire = "{misfire}"\nmost = 3\n')
    first = declared(store, made)
    store.write_now(lambda conn: clock.start_due(conn, made, first + late))
    assert sorted((start.at - first) // HOUR for start in newest(store)) == expected
    told = store.read_now(lambda conn: log.read(conn, types=["pipeline.skipped"]))
    assert [event.data["missed"] for event in told] == [6 - len(expected)]
    assert store.read_now(lambda conn: clock.state(conn, "p").next_at) == first + 6 * HOUR
    assert not store.read_now(lambda conn: clock.any_due(conn, made, first + late))


def test_a_moment_is_asked_for_once_even_if_the_clock_is_turned_back(store: Store) -> None:
    made = project(DAILY)
    first = declared(store, made)
    assert store.write_now(lambda conn: clock.start_due(conn, made, first)) == 1
    store.write_now(lambda conn: conn.exec_driver_sql(f"UPDATE pipeline_schedules SET next_at = {first}"))
    assert store.write_now(lambda conn: clock.start_due(conn, made, first)) == 0


def test_a_changed_schedule_begins_anew_and_an_unchanged_one_keeps_its_moment(store: Store) -> None:
    first = declared(store, project(DAILY))
    store.write_now(lambda conn: conn.exec_driver_sql("UPDATE pipeline_schedules SET next_at = 5"))
    assert declared(store, project(DAILY)) == 5
    assert declared(store, project(DAILY.replace("0 *", "30 *"))) > first - HOUR
    store.write_now(lambda conn: clock.declare(conn, parse_project('[project]\nname = "t"')))
    with pytest.raises(NotFound):
        store.read_now(lambda conn: clock.state(conn, "p"))


def test_a_pause_starts_nothing_and_what_it_missed_stays_missed(store: Store) -> None:
    made = project(DAILY)
    first = declared(store, made)
    store.write_now(lambda conn: clock.pause(conn, "p", "ann", "holidays"))
    with pytest.raises(Conflict):
        store.write_now(lambda conn: clock.pause(conn, "p", "ann", "again"))
    assert not store.read_now(lambda conn: clock.any_due(conn, made, first))
    store.write_now(lambda conn: conn.exec_driver_sql("UPDATE pipeline_schedules SET next_at = 5"))
    store.write_now(lambda conn: clock.resume(conn, made, "p", "ann"))
    assert store.read_now(lambda conn: clock.state(conn, "p").next_at) >= first
    assert newest(store) == []


def test_a_queue_keeps_the_limit(store: Store) -> None:
    made = project(above="limit = 2")
    for slot in "abc":
        ask(store, made, slot)
    assert ask(store, made, "a") is None
    assert store.write_now(lambda conn: turns.release(conn, made)) == 2
    assert states(store) == ["ready", "ready", "waiting"]
    assert not store.read_now(lambda conn: turns.any_waiting(conn, made))
    run_all(store, made)
    done = next(each for each in newest(store) if each.state == "ready")
    store.write_now(lambda conn: starts.finish(conn, done.id, None))
    assert store.read_now(lambda conn: turns.any_waiting(conn, made))


def test_busy_pipelines_skip_or_cancel(store: Store) -> None:
    skipping = project(above='when_busy = "skip"')
    ask(store, skipping, "a")
    skipped = ask(store, skipping, "b")
    assert skipped is not None and skipped.state == "skipped" and "busy" in str(skipped.error)
    cancelling = project(above='when_busy = "cancel"')
    store.write_now(lambda conn: turns.release(conn, cancelling))
    ask(store, cancelling, "c")
    assert states(store) == ["cancelling", "skipped", "waiting"]
    assert not store.read_now(lambda conn: turns.any_waiting(conn, cancelling)), "the older one has not ended yet"
    older = next(each for each in newest(store) if each.state == "cancelling")
    assert store.write_now(lambda conn: starts.begin(conn, older.id)) is None
    assert store.read_now(lambda conn: turns.any_waiting(conn, cancelling))


def test_a_runner_that_died_is_followed_until_its_pipeline_ran_to_its_end(store: Store) -> None:
    made = project()
    start = ask(store, made, "a")
    assert start is not None
    store.write_now(lambda conn: turns.release(conn, made))
    first = store.write_now(lambda conn: starts.begin(conn, start.id))
    second = store.write_now(lambda conn: starts.begin(conn, start.id))
    assert first is not None and second is not None and first.pipeline_run_id != second.pipeline_run_id
    record = {"pipeline": "main", "params": {}, "code": {}, "cause": None, "started_at": 1, "steps": {}}
    done = {**record, "state": "finished", "ended_at": 2}
    store.write_now(lambda conn: pipeline_runs.put(conn, str(second.pipeline_run_id), done, actor="pipeline"))
    assert store.write_now(lambda conn: starts.begin(conn, start.id)) is None, "it ended before its runner said so"
    assert states(store) == ["finished"]


def test_parameters_are_filled_in_or_the_start_fails(store: Store) -> None:
    made = project(above='params = { day = "{day}", month = "{at:%Y/%m}", file = "{file}", n = 3 }')
    start = ask(store, made, "a", facts={"file": "in/1.csv"}, params={"extra": "{day}"})
    assert start is not None
    assert start.params["file"] == "in/1.csv" and start.params["n"] == 3
    assert start.params["day"] == start.params["extra"] and start.params["month"] == start.params["day"][:7].replace(
        "-", "/"
    )
    failed = ask(store, made, "b")
    assert failed is not None and failed.state == "failed" and "{file} has no value" in str(failed.error)


def test_an_event_starts_once_and_never_in_a_circle(store: Store) -> None:
    text = '[pipelines.p.on_event]\ntype = "model.created"\nwhere = { name = ["flight-*", "x"], n = 1 }'
    made = project(text, 'params = { n = "{event.n}" }')
    store.write_now(lambda conn: log.append(conn, "model.created", "model/x", "ann", {"name": "x", "n": 1}))
    declared(store, made)
    store.write_now(lambda conn: by_event.declare(conn, made))
    dispatcher = Dispatcher()
    by_event.subscribe(dispatcher, made)

    def happens(data: dict[str, Any], cause: str | None = None) -> None:
        store.write_now(lambda conn: log.append(conn, "model.created", "model/x", "ann", data, cause=cause))
        store.write_now(lambda conn: dispatcher.run_pending(conn, "pipeline/p"))

    happens({"name": "other", "n": 1})
    happens({"name": "flight-delay", "n": True})
    assert newest(store) == [], "neither what was before the declaration, nor what does not match"
    happens({"name": "flight-delay", "n": 1})
    (start,) = newest(store)
    assert start.params == {"n": "1"} and start.kind == "event"
    happens({"name": "flight-delay", "n": 1}, cause=start.cause)
    assert len(newest(store)) == 1, "what it caused itself does not start it"


def test_an_unknown_event_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"on_event\.type"):
        by_event.check(project('[pipelines.p.on_event]\ntype = "model.exploded"'))


def test_each_arrival_starts_once(store: Store, tmp_path: Path) -> None:
    made = project('[pipelines.p.on_data]\npath = "in/*.csv"\n', 'params = { f = "{files}" }')
    wanted = made.pipelines["p"].on_data
    assert wanted is not None
    declared(store, made)
    folder = tmp_path / "in"
    folder.mkdir()

    def put(name: str, text: str, age_s: float = 60) -> None:
        (folder / name).write_text(text)
        then = now_ms() / 1000 - age_s
        os.utime(folder / name, (then, then))

    def look() -> list[str]:
        before = store.read_now(lambda conn: by_data.known(conn, "p"))
        seen = by_data.look(tmp_path, wanted, before)
        return store.write_now(lambda conn: by_data.take_in(conn, "p", made.pipelines["p"], seen))

    put("old.csv", "1")
    assert look() == [] and newest(store) == [], "what is there at first is known"
    put("a.csv", "1")
    put("b.csv", "2")
    put("half.csv", "3", age_s=0)
    assert look() == ["in/a.csv", "in/b.csv"]
    assert look() == []
    put("a.csv", "1", age_s=30)
    assert look() == [], "touched only"
    put("a.csv", "other", age_s=20)
    (folder / "b.csv").unlink()
    put("half.csv", "3 and more")
    assert look() == ["in/a.csv", "in/half.csv"]
    assert [start.params["f"] for start in newest(store)] == ["in/a.csv in/half.csv", "in/a.csv in/b.csv"]


def test_a_backfill_does_each_date_once_and_goes_on(store: Store) -> None:
    made = project(DAILY.replace("0 *", "0 2") + 'zone = "Europe/Berlin"', 'params = { day = "{day}" }')
    declared(store, made)
    wanted = Range("2026-03-28", "2026-03-31", parallel=2)

    def begin(wanted: Range) -> backfills.Backfill:
        return store.write_now(lambda conn: backfills.begin(conn, "p", made.pipelines["p"], wanted, "ann"))

    begun = begin(wanted)
    assert begun.states == {"waiting": 4}
    assert store.write_now(lambda conn: turns.release(conn, made)) == 2
    ask(store, made, "by hand")
    assert store.write_now(lambda conn: turns.release(conn, made)) == 1, "ordinary starts do not wait for it"
    for each in newest(store):
        if each.state == starts.READY:
            store.write_now(lambda conn, each=each: starts.finish(conn, each.id, None))
    run_all(store, made, failing="2026-03-31")
    assert store.read_now(lambda conn: backfills.get(conn, begun.id)).states == {"finished": 3, "failed": 1}
    finished = store.read_now(lambda conn: log.read(conn, types=["backfill.finished"]))
    assert [event.data["failed"] for event in finished] == [1]
    second = begin(wanted)
    assert second.done_before == 3 and second.states == {"waiting": 1}
    run_all(store, made)
    assert begin(wanted).done_before == 4
    assert begin(Range("2026-03-28", "2026-03-31", again=True)).states == {"waiting": 4}


def test_moments_of_a_range() -> None:
    plain = project().pipelines["p"]
    berlin = project(DAILY + 'zone = "Europe/Berlin"').pipelines["p"]
    assert len(backfills.moments(plain, Range("2026-01-01", "2026-01-31", "1d"))) == 31
    days = backfills.moments(berlin, Range("2026-03-28", "2026-03-30", "1d"))
    assert [(b - a) // HOUR for a, b in pairwise(days)] == [24, 23], "a short day"
    assert len(backfills.moments(berlin, Range("2026-03-29", "2026-03-29", "6h"))) == 4
    assert len(backfills.moments(plain, Range("2026-01-01T06:00", "2026-01-01T12:00", "0 */2 * * *"))) == 4
    for broken, words in (
        (Range("2026-01-02", "2026-01-01", "1d"), "is after"),
        (Range("yesterday", "2026-01-01", "1d"), "is no date"),
        (Range("2026-01-01", "2026-01-01"), "no schedule"),
        (Range("2026-01-01", "2026-12-01", "1m"), "more than"),
        (Range("2026-01-01", "2026-01-01", "often"), "not a duration"),
    ):
        with pytest.raises(Invalid, match=words):
            backfills.moments(plain, broken)


def test_a_cancelled_backfill_drops_what_waits(store: Store) -> None:
    made = project()
    declared(store, made)
    wanted = Range("2026-01-01", "2026-01-03", "1d")
    begun = store.write_now(lambda conn: backfills.begin(conn, "p", made.pipelines["p"], wanted, "ann"))
    store.write_now(lambda conn: turns.release(conn, made))
    ended = store.write_now(lambda conn: backfills.cancel(conn, begun.id, "ann"))
    assert ended.states == {"cancelling": 1, "cancelled": 2} and ended.open
    running = next(each for each in newest(store) if each.state == starts.CANCELLING)
    store.write_now(lambda conn: starts.begin(conn, running.id))
    with pytest.raises(Conflict):
        store.write_now(lambda conn: backfills.cancel(conn, begun.id, "ann"))
