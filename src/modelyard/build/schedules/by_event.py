"""Starts by events: which events of the log a pipeline waits for."""

from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from modelyard.build.schedules import clock, starts
from modelyard.build.schedules.starts import Ask
from modelyard.domain.errors import ConfigError
from modelyard.domain.pipelines import OnEvent, Pipeline
from modelyard.domain.project import Project
from modelyard.events import log
from modelyard.events.catalogue import CATALOGUE
from modelyard.events.dispatch import Dispatcher
from modelyard.events.log import Event
from modelyard.store.tables.events import cursors, events

PREFIX = "pipeline/"


def check(project: Project) -> None:
    """Raise ConfigError for an event that the catalogue does not hold."""
    for name, declared in project.pipelines.items():
        if declared.on_event is not None and declared.on_event.type not in CATALOGUE:
            raise ConfigError(
                f"modelyard.toml: pipelines.{name}.on_event.type: {declared.on_event.type!r} is no event.",
                remedy="The events are listed in docs/reference/events.md; such as 'rollout.completed'.",
            )


def declare(conn: Connection, project: Project) -> None:
    """A pipeline that is new here hears of events from now on; the cursor of one that is gone goes."""
    wanted = {f"{PREFIX}{name}" for name, declared in project.pipelines.items() if declared.on_event}
    here = cursors.c.subscriber.startswith(PREFIX)
    known = set(conn.execute(select(cursors.c.subscriber).where(here)).scalars())
    conn.execute(delete(cursors).where(here, cursors.c.subscriber.not_in(wanted)))
    newest = conn.execute(select(func.max(events.c.seq))).scalar() or 0
    for subscriber in sorted(wanted - known):
        conn.execute(insert(cursors).values(subscriber=subscriber, seq=newest))


def subscribe(dispatcher: Dispatcher, project: Project) -> None:
    for name, declared in project.pipelines.items():
        if declared.on_event is not None:
            handler = _handler(name, declared, declared.on_event)
            dispatcher.subscribe(f"{PREFIX}{name}", [declared.on_event.type], handler)


def _handler(name: str, declared: Pipeline, wanted: OnEvent) -> Any:
    def on_event(conn: Connection, event: Event) -> None:
        if matches(wanted, event) and not clock.paused(conn, name) and not _own(conn, name, event):
            facts = {f"event.{key}": value for key, value in {**event.data, "subject": event.subject}.items()}
            starts.ask(
                conn, name, declared, Ask(starts.EVENT, f"event/{event.id}", event.time, cause=event.id, facts=facts)
            )

    return on_event


def matches(wanted: OnEvent, event: Event) -> bool:
    """Whether the event is one that the pipeline waits for."""
    held = {**event.data, "subject": event.subject, "actor": event.actor}
    return event.type == wanted.type and all(_is(value, held.get(key)) for key, value in wanted.where.items())


def _is(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, list):
        return any(_is(each, value) for each in wanted)
    if isinstance(wanted, str) and isinstance(value, str):
        return fnmatchcase(value, wanted)
    return wanted == value and isinstance(wanted, bool) == isinstance(value, bool)


def _own(conn: Connection, name: str, event: Event) -> bool:
    """Whether a start of this very pipeline led to the event: it must not start itself for ever."""
    chain = log.causes(conn, event.id)
    return any(cause.type == "pipeline.triggered" and cause.subject == f"pipeline/{name}" for cause in chain)
