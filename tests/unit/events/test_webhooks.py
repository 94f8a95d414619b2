"""Webhooks: signed, to allowed places only, at least once, their secrets never told."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from modelyard.domain.errors import Invalid, NotFound
from modelyard.domain.permissions import SYSTEM
from modelyard.events import delivery, jobs, log, webhooks
from modelyard.events.destinations import LOOPBACK, check_url, resolved
from modelyard.events.dispatch import Dispatcher
from modelyard.registry import models, versions
from modelyard.store.database import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'yard.db'}")
    yield opened
    opened.close()


class Receiver(HTTPServer):
    """Takes what comes; answers with `status`."""

    status = 200

    def __init__(self) -> None:
        self.taken: list[tuple[dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?x=1"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.taken.append(({key.lower(): value for key, value in self.headers.items()}, body))
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        if self.server.status == 302:
            self.send_header("location", "http://169.254.169.254/latest/meta-data")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return None


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv(LOOPBACK, "1")
    running = Receiver()
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def add(store: Store, url: str, events: list[str], shape: str = webhooks.CLOUDEVENTS) -> webhooks.Webhook:
    values = {"name": "hook", "url": url, "events": events, "shape": shape, "secret": "s3cret"}
    return store.write_now(lambda conn: webhooks.create(conn, actor="ana", **values))


def dispatch(store: Store) -> None:
    dispatcher = Dispatcher()
    webhooks.subscribe(dispatcher)
    while store.write_now(lambda conn: dispatcher.run_pending(conn, "webhooks")):
        pass


def deliver(store: Store, now: int | None = None) -> int:
    """Run every delivery that is due; how many attempts were made."""
    count = 0
    while job := store.write_now(lambda conn: jobs.claim(conn, [webhooks.JOB], now)):
        item = store.read_now(lambda conn, job=job: delivery.letter(conn, job.payload["delivery"]))
        if item is not None:
            answer = delivery.send(item)
            store.write_now(lambda conn, item=item, answer=answer: delivery.note(conn, item.id, answer))
            count += 1
        store.write_now(lambda conn, job=job: jobs.finish(conn, job.id))
    return count


def register(conn: Connection) -> None:
    models.create(conn, "m", actor="ana", description="a model", tags={"team": "x"})
    file = versions.ManifestFile("model.bin", "ab" * 32, 3)
    versions.register(conn, "m", [file], actor=SYSTEM, source="models:/m-1", run_id="r1")
    versions.set_tag(conn, "m", 1, "checked", "yes", actor="ana")
    versions.set_tag(conn, "m", 1, "checked", None, actor="ana")
    versions.set_alias(conn, "m", "champion", 1, actor="ana")
    versions.set_alias(conn, "m", "champion", None, actor="ana")


def signature(headers: dict[str, str], body: bytes, prefix: str) -> str:
    signed = f"{headers[prefix + 'id']}.{headers[prefix + 'timestamp']}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(b"s3cret", signed, hashlib.sha256).digest()).decode()


def test_a_cloudevent_arrives_signed(store: Store, receiver: Receiver) -> None:
    add(store, receiver.url, ["version.registered"])
    store.write_now(register)
    dispatch(store)
    assert deliver(store) == 1
    headers, body = receiver.taken[0]
    event = json.loads(body)
    assert (event["type"], event["subject"]) == ("dev.modelyard.version.registered", "version/m/1")
    assert headers["content-type"].startswith("application/cloudevents+json")
    assert headers["webhook-signature"] == signature(headers, body, "webhook-")


def test_mlflow_is_told_in_its_own_shape(store: Store, receiver: Receiver) -> None:
    hook = add(store, receiver.url, sorted(webhooks.ENTITIES), webhooks.MLFLOW)
    store.write_now(register)
    dispatch(store)
    assert deliver(store) == 6
    told = [json.loads(body) for _, body in receiver.taken]
    assert {f"{item['entity']}.{item['action']}" for item in told} == set(webhooks.ENTITIES)
    created = next(item for item in told if item["entity"] == "model_version")
    assert created["data"]["version"] == "1" and created["data"]["run_id"] == "r1"
    headers, body = receiver.taken[0]
    stamp, own = headers["x-mlflow-timestamp"], headers["x-mlflow-delivery-id"]
    expected = hmac.new(b"s3cret", f"{own}.{stamp}.".encode() + body, hashlib.sha256).digest()
    assert headers["x-mlflow-signature"] == "v1," + base64.b64encode(expected).decode()
    held = store.read_now(lambda conn: webhooks.deliveries(conn, hook.id))
    assert {item.state for item in held} == {"delivered"} and len(held) == 6


def test_a_refusing_receiver_is_tried_again_until_it_takes_it(store: Store, receiver: Receiver) -> None:
    hook = add(store, receiver.url, ["model.created"])
    receiver.status = 503
    store.write_now(lambda conn: models.create(conn, "m", actor="ana"))
    dispatch(store)
    assert deliver(store) == 1
    assert deliver(store) == 0
    assert [item.state for item in store.read_now(lambda conn: webhooks.deliveries(conn, hook.id))] == ["waiting"]
    receiver.status = 200
    assert deliver(store, now=10**14) == 1
    (held,) = store.read_now(lambda conn: webhooks.deliveries(conn, hook.id))
    assert (held.state, held.attempts, held.status) == ("delivered", 2, 200)
    ids = {headers["webhook-id"] for headers, _ in receiver.taken}
    assert len(ids) == 1 and len(receiver.taken) == 2


def test_after_the_last_attempt_it_is_given_up_with_an_event(store: Store, receiver: Receiver) -> None:
    hook = add(store, receiver.url, ["model.created"])
    receiver.status = 500
    store.write_now(lambda conn: models.create(conn, "m", actor="ana"))
    dispatch(store)
    assert deliver(store, now=10**14) == 1 + len(delivery.PAUSES_S)
    (held,) = store.read_now(lambda conn: webhooks.deliveries(conn, hook.id))
    assert held.state == "failed" and held.error == "answered 500"
    assert len(store.read_now(lambda conn: log.read(conn, types=["webhook.failed"]))) == 1


def test_a_redirect_is_not_followed(store: Store, receiver: Receiver) -> None:
    receiver.status = 302
    answer = delivery.send(delivery.Letter("d", receiver.url, webhooks.CLOUDEVENTS, None, {}))
    assert answer.error == "answered 302" and len(receiver.taken) == 1


def test_a_removed_webhook_is_told_nothing_more(store: Store, receiver: Receiver) -> None:
    hook = add(store, receiver.url, ["model.created"])
    store.write_now(lambda conn: models.create(conn, "m", actor="ana"))
    dispatch(store)
    store.write_now(lambda conn: webhooks.remove(conn, hook.id, actor="ana"))
    assert deliver(store) == 0 and receiver.taken == []
    with pytest.raises(NotFound):
        store.read_now(lambda conn: webhooks.get(conn, hook.id))


def test_the_secret_is_in_no_answer_and_no_event(store: Store, receiver: Receiver) -> None:
    hook = add(store, receiver.url, ["model.created"])
    store.write_now(lambda conn: webhooks.change(conn, hook.id, actor="ana", secret="an0ther"))
    shown = [repr(hook), repr(store.read_now(webhooks.every)), repr(store.read_now(log.read))]
    assert not any("s3cret" in text or "an0ther" in text for text in shown)


PLACES = [
    "ftp://host/x",
    "http://",
    "http://user:word@example.org/",
    "http://169.254.169.254/latest/meta-data",
    "http://[fe80::1]/",
    "http://[fd00:ec2::254]/",
    "http://[::ffff:169.254.169.254]/",
    "http://0.0.0.0/",
    "http://224.0.0.1/",
    "http://127.0.0.1:80/",
    "http://[::1]/",
    "http://localhost/",
    "http://x.localhost/",
    "http://host:99999/",
]


@pytest.mark.parametrize("url", PLACES)
def test_where_no_webhook_goes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LOOPBACK, raising=False)
    with pytest.raises(Invalid):
        check_url(url)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "localhost"])
def test_a_name_that_leads_to_this_machine_is_refused_when_it_is_resolved(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LOOPBACK, raising=False)
    with pytest.raises(Invalid, match="this machine"):
        resolved(host, 80)


@pytest.mark.parametrize("events", [[], ["no.such"], ["run.created"], ["webhook.failed"]])
def test_events_that_are_not_offered_are_refused(store: Store, events: list[str]) -> None:
    with pytest.raises(Invalid, match="Not an event for a webhook"):
        add(store, "https://example.org/", events)
