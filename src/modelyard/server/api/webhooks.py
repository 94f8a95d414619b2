"""Webhooks over the native API, and the job that delivers."""

import asyncio
from typing import Any

import msgspec
from sqlalchemy import Connection

from modelyard.domain.permissions import Permission
from modelyard.events import delivery, webhooks
from modelyard.events.delivery import Answer, Letter
from modelyard.events.jobs import Job
from modelyard.events.webhooks import Webhook
from modelyard.kit.clock import iso, now_ms
from modelyard.kit.ids import new_id, new_token
from modelyard.server.routes import Call, Route
from modelyard.server.yard import Yard


class NewWebhook(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    url: str
    events: list[str]
    description: str = ""
    secret: str | None = None


async def run_delivery(yard: Yard, job: Job) -> None:
    """One attempt at a delivery: payload {delivery}."""
    delivery_id: str = job.payload["delivery"]
    item = await yard.store.read(lambda conn: delivery.letter(conn, delivery_id))
    if item is None:
        return
    answer = await asyncio.to_thread(delivery.send, item)
    await yard.store.write(lambda conn: delivery.note(conn, delivery_id, answer))


async def tried(webhook: Webhook, secret: str | None, body: dict[str, Any]) -> Answer:
    """Send a test body now, once."""
    return await asyncio.to_thread(delivery.send, Letter(new_id(), webhook.url, webhook.shape, secret, body))


async def create(call: Call) -> Any:
    """The webhook; with its signing secret, shown this once, unless the caller brought one."""
    body, actor, secret = call.body, call.principal.name, call.body.secret or new_token()
    values = {"name": body.name, "url": body.url, "events": body.events, "description": body.description}
    made = await call.yard.store.write(lambda conn: webhooks.create(conn, actor=actor, secret=secret, **values))
    return made.__dict__ if body.secret else {**made.__dict__, "secret": secret}


async def list_webhooks(call: Call) -> Any:
    return {"webhooks": await call.yard.store.read(webhooks.every), "next": None}


async def remove(call: Call) -> Any:
    webhook_id, actor = call.path["id"], call.principal.name
    await call.yard.store.write(lambda conn: webhooks.remove(conn, webhook_id, actor=actor))
    return {}


async def list_deliveries(call: Call) -> Any:
    webhook_id = call.path["id"]
    return {
        "deliveries": await call.yard.store.read(lambda conn: webhooks.deliveries(conn, webhook_id)),
        "next": None,
    }


async def test(call: Call) -> Any:
    """Send a `yard.tested` CloudEvent now, and say what the receiver answered."""
    webhook_id = call.path["id"]

    def work(conn: Connection) -> tuple[Webhook, str | None]:
        return webhooks.get(conn, webhook_id), webhooks.secret_of(conn, webhook_id)

    webhook, secret = await call.yard.store.read(work)
    body = {"specversion": "1.0", "id": new_id(), "source": "/modelyard", "type": "dev.modelyard.webhook.tested"}
    body |= {"time": iso(now_ms()), "subject": f"webhook/{webhook.id}", "data": {"name": webhook.name}}
    answer = await tried(webhook, secret, body)
    return {"success": answer.error is None, "status": answer.status, "error": answer.error}


A = Permission.YARD_ADMIN
ROUTES = [
    Route("GET", "/api/v1/webhooks", A, list_webhooks, summary="webhooks, without their secrets"),
    Route("POST", "/api/v1/webhooks", A, create, body=NewWebhook, summary="add a webhook; its secret is shown once"),
    Route("DELETE", "/api/v1/webhooks/{id}", A, remove, summary="remove a webhook"),
    Route("GET", "/api/v1/webhooks/{id}/deliveries", A, list_deliveries, summary="deliveries, newest first"),
    Route("POST", "/api/v1/webhooks/{id}/test", A, test, summary="send a test event now"),
]
