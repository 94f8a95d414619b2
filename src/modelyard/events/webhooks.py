"""Webhooks: who is told of which events, and what became of each telling."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from modelyard.domain.errors import Invalid, NotFound
from modelyard.events import jobs, log
from modelyard.events.catalogue import CATALOGUE
from modelyard.events.destinations import check_url
from modelyard.events.dispatch import Dispatcher
from modelyard.events.log import Event
from modelyard.events.mlflow_events import ENTITIES, told_as_mlflow
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id
from modelyard.store.tables.events import webhook_deliveries, webhooks

CLOUDEVENTS, MLFLOW = "cloudevents", "mlflow"
JOB = "webhook"
TRACKING = ("run.", "experiment.", "logged-model.", "webhook.", "token.")
OFFERED = frozenset(name for name in CATALOGUE if not name.startswith(TRACKING))
"""Event types that webhooks may name: not the stream of tracking, and nothing about webhooks themselves."""


@dataclass(frozen=True)
class Webhook:
    """Without its secret, which is only ever read to sign."""

    id: str
    name: str
    url: str
    events: list[str]
    shape: str
    description: str
    active: bool
    created_by: str
    created_at: int
    updated_at: int


@dataclass(frozen=True)
class Delivery:
    id: str
    webhook_id: str
    event: str
    state: str
    attempts: int
    status: int | None
    error: str | None
    created_at: int
    updated_at: int


def create(
    conn: Connection,
    *,
    actor: str,
    name: str,
    url: str,
    events: list[str],
    shape: str = CLOUDEVENTS,
    description: str = "",
    secret: str | None = None,
    active: bool = True,
) -> Webhook:
    """The new webhook. Raises Invalid for an address that is not allowed or an event that is not offered."""
    check_url(url)
    _check_events(events, shape)
    if not name.strip() or len(name) > 200:
        raise Invalid("A webhook's name has 1 to 200 characters.")
    now = now_ms()
    values: dict[str, Any] = {"name": name, "url": url, "events": events, "shape": shape, "description": description}
    values |= {"secret": secret, "active": active, "created_by": actor, "created_at": now, "updated_at": now}
    made = new_id()
    conn.execute(insert(webhooks).values(id=made, **values))
    log.append(conn, "webhook.changed", f"webhook/{made}", actor, {"name": name, "url": url, "events": events})
    return get(conn, made)


def change(conn: Connection, webhook_id: str, *, actor: str, **values: Any) -> Webhook:
    """The webhook after some of its fields changed."""
    before = get(conn, webhook_id)
    if "url" in values:
        check_url(values["url"])
    if "events" in values:
        _check_events(values["events"], before.shape)
    conn.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(**values, updated_at=now_ms()))
    told = {key: "changed" if key == "secret" else value for key, value in values.items()}
    log.append(conn, "webhook.changed", f"webhook/{webhook_id}", actor, told)
    return get(conn, webhook_id)


def remove(conn: Connection, webhook_id: str, *, actor: str) -> None:
    get(conn, webhook_id)
    conn.execute(delete(webhook_deliveries).where(webhook_deliveries.c.webhook_id == webhook_id))
    conn.execute(delete(webhooks).where(webhooks.c.id == webhook_id))
    log.append(conn, "webhook.changed", f"webhook/{webhook_id}", actor, {"deleted": True})


def get(conn: Connection, webhook_id: str) -> Webhook:
    row = conn.execute(select(webhooks).where(webhooks.c.id == webhook_id)).first()
    if row is None:
        raise NotFound(f"There is no webhook {webhook_id!r}.")
    return _webhook(row)


def every(conn: Connection, limit: int = 1000, offset: int = 0) -> list[Webhook]:
    """Webhooks, oldest first."""
    query = select(webhooks).order_by(webhooks.c.created_at, webhooks.c.id).limit(limit).offset(offset)
    return [_webhook(row) for row in conn.execute(query)]


def deliveries(conn: Connection, webhook_id: str, limit: int = 100) -> list[Delivery]:
    """A webhook's deliveries, newest first."""
    get(conn, webhook_id)
    table = webhook_deliveries.c
    columns = [table[name] for name in Delivery.__dataclass_fields__]
    query = select(*columns).where(table.webhook_id == webhook_id).order_by(table.created_at.desc(), table.id)
    return [Delivery(*row) for row in conn.execute(query.limit(limit))]


def queue(conn: Connection, webhook: Webhook, event: str, body: dict[str, Any], cause: str | None) -> str:
    """The id of a delivery that a job makes as soon as the transaction is committed."""
    made, now = new_id(), now_ms()
    conn.execute(
        insert(webhook_deliveries).values(
            id=made,
            webhook_id=webhook.id,
            event=event,
            body=body,
            state="waiting",
            attempts=0,
            created_at=now,
            updated_at=now,
        )
    )
    jobs.enqueue(conn, JOB, {"delivery": made}, cause=cause)
    return made


def subscribe(dispatcher: Dispatcher) -> None:
    """Queue a delivery for every webhook that an event concerns, in the transaction of the cursor."""

    def on_event(conn: Connection, event: Event) -> None:
        for row in conn.execute(select(webhooks).where(webhooks.c.active)).all():
            webhook = _webhook(row)
            if webhook.shape == CLOUDEVENTS and event.type in webhook.events:
                queue(conn, webhook, event.type, event.as_cloudevent(), event.id)
            elif webhook.shape == MLFLOW:
                for kind, body in told_as_mlflow(event):
                    if kind in webhook.events:
                        queue(conn, webhook, kind, body, event.id)

    dispatcher.subscribe("webhooks", OFFERED, on_event)


def _check_events(events: Iterable[str], shape: str) -> None:
    known = OFFERED if shape == CLOUDEVENTS else ENTITIES
    unknown = sorted(set(events) - known)
    if unknown or not list(events):
        raise Invalid(
            f"Not an event for a webhook: {', '.join(unknown) or 'none is named'}.",
            remedy=f"Name some of: {', '.join(sorted(known))}.",
        )


def _webhook(row: Row[Any]) -> Webhook:
    return Webhook(**{name: getattr(row, name) for name in Webhook.__dataclass_fields__})


def secret_of(conn: Connection, webhook_id: str) -> str | None:
    """The secret to sign with; never part of an answer."""
    return conn.execute(select(webhooks.c.secret).where(webhooks.c.id == webhook_id)).scalar()
