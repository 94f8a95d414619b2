"""MLflow's registry webhooks: its calls, its events, its deliveries."""

from typing import Any

from sqlalchemy import Connection

from modelyard.domain.errors import Invalid
from modelyard.domain.permissions import Permission
from modelyard.events import webhooks
from modelyard.events.webhooks import MLFLOW, Webhook
from modelyard.kit.clock import iso, now_ms
from modelyard.server.api.webhooks import tried
from modelyard.server.mlflow_rest import wire
from modelyard.server.mlflow_rest.table import pair
from modelyard.server.routes import Call, Route

EXAMPLES: dict[str, wire.Json] = {
    "registered_model.created": {
        "name": "example_model",
        "tags": {"example_key": "example_value"},
        "description": None,
    },
    "model_version.created": {
        "name": "example_model",
        "version": "1",
        "source": "models:/m-0",
        "run_id": None,
        "tags": {},
        "description": None,
    },
    "model_version_tag.set": {"name": "example_model", "version": "1", "key": "key", "value": "value"},
    "model_version_tag.deleted": {"name": "example_model", "version": "1", "key": "key"},
    "model_version_alias.created": {"name": "example_model", "alias": "champion", "version": "1"},
    "model_version_alias.deleted": {"name": "example_model", "alias": "champion"},
}


def shown(webhook: Webhook) -> wire.Json:
    """The webhook as MLflow shows it, without its secret."""
    pairs = [name.upper().split(".") for name in webhook.events]
    return {
        "webhook_id": webhook.id,
        "name": webhook.name,
        "url": webhook.url,
        "events": [{"entity": entity, "action": action} for entity, action in pairs],
        "description": webhook.description,
        "status": "ACTIVE" if webhook.active else "DISABLED",
        "creation_timestamp": webhook.created_at,
        "last_updated_timestamp": webhook.updated_at,
    }


def event_in(item: wire.Json) -> str:
    return f"{wire.text(item, 'entity')}.{wire.text(item, 'action')}".lower()


def status_in(body: wire.Json) -> bool:
    status = wire.text(body, "status", "ACTIVE")
    if status not in ("ACTIVE", "DISABLED"):
        raise Invalid(f"Invalid webhook status {status!r}.", remedy="Use ACTIVE or DISABLED.")
    return status == "ACTIVE"


async def create(call: Call) -> Any:
    body, actor = call.body, call.principal.name
    values: dict[str, Any] = {
        "name": wire.text(body, "name"),
        "url": wire.text(body, "url"),
        "events": [event_in(item) for item in wire.items(body, "events")],
        "description": wire.text(body, "description", ""),
        "secret": wire.text(body, "secret", "") or None,
        "active": status_in(body),
    }
    made = await call.yard.store.write(lambda conn: webhooks.create(conn, actor=actor, shape=MLFLOW, **values))
    return {"webhook": shown(made)}


async def list_all(call: Call) -> Any:
    found = await call.yard.store.read(webhooks.every)
    return {"webhooks": [shown(webhook) for webhook in found if webhook.shape == MLFLOW]}


async def get(call: Call) -> Any:
    return {"webhook": shown(await call.yard.store.read(lambda conn: webhooks.get(conn, call.path["id"])))}


async def update(call: Call) -> Any:
    body, actor = call.body, call.principal.name
    values: dict[str, Any] = {key: body[key] for key in ("name", "url", "description", "secret") if body.get(key)}
    if body.get("events"):
        values["events"] = [event_in(item) for item in wire.items(body, "events")]
    if body.get("status"):
        values["active"] = status_in(body)
    changed = await call.yard.store.write(lambda conn: webhooks.change(conn, call.path["id"], actor=actor, **values))
    return {"webhook": shown(changed)}


async def delete(call: Call) -> Any:
    actor = call.principal.name
    await call.yard.store.write(lambda conn: webhooks.remove(conn, call.path["id"], actor=actor))
    return {}


async def test(call: Call) -> Any:
    """Send an example of the asked (or the first) event now."""
    named = call.body.get("event")

    def work(conn: Connection) -> tuple[Webhook, str | None]:
        return webhooks.get(conn, call.path["id"]), webhooks.secret_of(conn, call.path["id"])

    webhook, secret = await call.yard.store.read(work)
    kind = event_in(named) if isinstance(named, dict) else webhook.events[0]
    if kind not in EXAMPLES:
        raise Invalid(f"{kind} is not an event of the registry's webhooks.")
    entity, _, action = kind.partition(".")
    body = {"entity": entity, "action": action, "timestamp": iso(now_ms()), "data": EXAMPLES[kind]}
    answer = await tried(webhook, secret, body)
    result: wire.Json = {"success": answer.error is None, "response_body": answer.text}
    if answer.status is not None:
        result["response_status"] = answer.status
    if answer.error is not None:
        result["error_message"] = answer.error
    return {"result": result}


A = Permission.YARD_ADMIN
ROUTES: list[Route] = [
    *pair("GET", "mlflow/webhooks", A, list_all),
    *pair("POST", "mlflow/webhooks", A, create),
    *pair("GET", "mlflow/webhooks/{id}", A, get),
    *pair("PATCH", "mlflow/webhooks/{id}", A, update),
    *pair("DELETE", "mlflow/webhooks/{id}", A, delete),
    *pair("POST", "mlflow/webhooks/{id}/test", A, test),
]
