"""Delivering to a webhook: signed, to the address that was checked, at least once, with growing pauses."""

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select, update

from modelyard.domain.errors import ModelyardError
from modelyard.events import jobs, log
from modelyard.events.destinations import check_url, resolved
from modelyard.events.webhooks import JOB, MLFLOW
from modelyard.kit.clock import now_ms
from modelyard.store.tables.events import webhook_deliveries, webhooks

TIMEOUT_S = 10.0
PAUSES_S = (5, 20, 80, 320, 1280, 3600, 3600, 3600)
"""Before each further attempt; a receiver may be away for about three hours."""


@dataclass(frozen=True)
class Letter:
    """All that one attempt needs."""

    id: str
    url: str
    shape: str
    secret: str | None
    body: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the receiver said: `error` is set when it did not take the event."""

    status: int | None
    text: str
    error: str | None


def letter(conn: Connection, delivery_id: str) -> Letter | None:
    """The delivery that is still to be made; None when it is done, or its webhook gone or switched off."""
    query = select(
        webhook_deliveries.c.id, webhooks.c.url, webhooks.c.shape, webhooks.c.secret, webhook_deliveries.c.body
    ).join(webhooks, webhooks.c.id == webhook_deliveries.c.webhook_id)
    waiting = (webhook_deliveries.c.id == delivery_id, webhook_deliveries.c.state == "waiting", webhooks.c.active)
    row = conn.execute(query.where(*waiting)).first()
    return Letter(*row) if row else None


def send(item: Letter) -> Answer:
    """One attempt; never raises for what the receiver or the network does."""
    import urllib3  # late: a server that delivers nothing does without

    payload = json.dumps(item.body, separators=(",", ":"), ensure_ascii=False)
    try:
        parts = check_url(item.url)
        secure = parts.scheme == "https"
        host = str(parts.hostname)
        port = parts.port or (443 if secure else 80)
        address = resolved(host, port)
        timeout = urllib3.Timeout(connect=5.0, read=TIMEOUT_S)
        pool: urllib3.HTTPConnectionPool
        if secure:
            pool = urllib3.HTTPSConnectionPool(
                address, port, timeout=timeout, server_hostname=host, assert_hostname=host
            )
        else:
            pool = urllib3.HTTPConnectionPool(address, port, timeout=timeout)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        with pool:
            answer = pool.request(
                "POST",
                target,
                body=payload.encode(),
                headers={"Host": parts.netloc, **headers(item, payload)},
                retries=False,
                redirect=False,
            )
    except ModelyardError as error:
        return Answer(None, "", str(error))
    except (urllib3.exceptions.HTTPError, OSError) as error:
        return Answer(None, "", f"no answer ({type(error).__name__})")
    text = answer.data[:1000].decode("utf-8", "replace")
    return Answer(answer.status, text, None if 200 <= answer.status < 300 else f"answered {answer.status}")


def headers(item: Letter, payload: str, now_s: int | None = None) -> dict[str, str]:
    """What goes with a body: its type, the delivery's id (the same for every attempt), the time, the signature.

    The signature is `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, in MLflow's headers for its shape
    and in the Standard Webhooks headers for CloudEvents.
    """
    stamp = str(int(time.time()) if now_s is None else now_s)
    mlflow = item.shape == MLFLOW
    media = "application/json" if mlflow else "application/cloudevents+json; charset=utf-8"
    names = (
        ("X-MLflow-Delivery-Id", "X-MLflow-Timestamp", "X-MLflow-Signature")
        if mlflow
        else ("webhook-id", "webhook-timestamp", "webhook-signature")
    )
    found = {"Content-Type": media, "User-Agent": "modelyard", names[0]: item.id, names[1]: stamp}
    if item.secret:
        signed = hmac.new(item.secret.encode(), f"{item.id}.{stamp}.{payload}".encode(), hashlib.sha256).digest()
        found[names[2]] = "v1," + base64.b64encode(signed).decode()
    return found


def note(conn: Connection, delivery_id: str, answer: Answer) -> None:
    """Record an attempt; queue the next one, or give up with an event."""
    table = webhook_deliveries
    row = conn.execute(select(table).where(table.c.id == delivery_id)).first()
    if row is None:
        return
    attempts = row.attempts + 1
    more = answer.error is not None and attempts <= len(PAUSES_S)
    state = "delivered" if answer.error is None else ("waiting" if more else "failed")
    values = {"state": state, "attempts": attempts, "status": answer.status, "error": answer.error}
    conn.execute(update(table).where(table.c.id == delivery_id).values(**values, updated_at=now_ms()))
    if more:
        jobs.enqueue(conn, JOB, {"delivery": delivery_id}, run_after=now_ms() + 1000 * PAUSES_S[attempts - 1])
    elif answer.error is not None:
        data = {"event": row.event, "attempts": attempts, "reason": answer.error}
        log.append(conn, "webhook.failed", f"webhook/{row.webhook_id}", "modelyard", data)


def forget(conn: Connection, before: int) -> int:
    """How many deliveries that were made or given up before this moment were removed."""
    ended = (webhook_deliveries.c.state != "waiting") & (webhook_deliveries.c.updated_at < before)
    return conn.execute(delete(webhook_deliveries).where(ended)).rowcount
