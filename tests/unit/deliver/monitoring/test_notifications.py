"""Notifications reach a real service by a real URL; what cannot be sent says why and keeps the secret."""

import base64
import email
import email.policy
import hashlib
import hmac
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiosmtpd.controller import Controller
from PIL import Image

from modelyard.deliver.monitoring import drawings, notifications, png
from modelyard.deliver.monitoring.reference import prepare, sketch_table
from modelyard.deliver.monitoring.tables import MemoryTable
from modelyard.domain.errors import ConfigError, Unavailable
from modelyard.domain.project import Project, parse_project
from tests.ports import free_port

# Apprise itself imports a module that Python 3.13 dropped; it has its own replacement for it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
ALERT: dict[str, Any] = {"model": "m", "version": 3, "environment": "production", "title": "roc_auc fell by 0.06"}
SECRET = "hunter2secret"


@dataclass
class Service:
    """A webhook receiver on a free port: what it was told, and with which status it answers."""

    status: int = 200
    told: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    port: int = 0
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    bodies: list[bytes] = field(default_factory=list[bytes])


@pytest.fixture
def service() -> Iterator[Service]:
    held = Service()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            held.told.append(json.loads(body))
            held.bodies.append(body)
            held.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(held.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    held.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield held
    server.shutdown()
    thread.join()
    server.server_close()


def declared(url: str) -> Project:
    return parse_project(f'[project]\nname = "p"\n[notify.team]\nurl = "{url}"')


def test_a_notification_arrives_with_what_happened(service: Service) -> None:
    notifications.send(declared(f"json://127.0.0.1:{service.port}/hook"), "team", "alert.opened", ALERT)
    (told,) = service.told
    assert "m v3" in told["title"] and "alert.opened" in told["title"]
    assert "roc_auc fell by 0.06" in told["message"] and "modelyard alerts" in told["message"]


def test_the_address_comes_from_the_environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_NOTIFY_PLACE", f"127.0.0.1:{service.port}/hook")
    notifications.send(declared("json://${TEAM_NOTIFY_PLACE}"), "team", "alert.opened", ALERT)
    assert len(service.told) == 1


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEAM_NOTIFY_PLACE", raising=False)
    with pytest.raises(ConfigError, match="TEAM_NOTIFY_PLACE"):
        notifications.send(declared("json://${TEAM_NOTIFY_PLACE}"), "team", "alert.opened", ALERT)


def test_a_signed_webhook_can_be_verified(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    url = f"http://127.0.0.1:{service.port}/hook"
    project = parse_project(f'[project]\nname = "p"\n[notify.team]\nurl = "{url}"\nsecret = "${{HOOK_SECRET}}"')
    notifications.send(project, "team", "alert.opened", ALERT, key="job-1")
    (told,), (headers,), (body,) = service.told, service.headers, service.bodies
    assert told["type"] == "dev.modelyard.alert.opened" and told["data"]["title"] == ALERT["title"]
    stamp = headers["webhook-timestamp"]
    digest = hmac.new(SECRET.encode(), b"job-1." + stamp.encode() + b"." + body, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    service.status = 500
    with pytest.raises(Unavailable, match="500"):
        notifications.send(project, "team", "alert.opened", ALERT)


def test_an_unknown_channel_is_named() -> None:
    with pytest.raises(ConfigError, match="nobody"):
        notifications.send(declared("json://127.0.0.1/"), "nobody", "alert.opened", ALERT)


@pytest.mark.parametrize("status", [403, 500])
def test_a_service_that_refuses_is_unavailable(service: Service, status: int) -> None:
    service.status = status
    with pytest.raises(Unavailable, match="team"):
        notifications.send(declared(f"json://127.0.0.1:{service.port}/hook"), "team", "alert.opened", ALERT)


def test_the_secret_of_a_bad_address_is_told_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"), pytest.raises(ConfigError) as raised:
        notifications.send(declared(f"nosuch://user:{SECRET}@host/path"), "team", "alert.opened", ALERT)
    assert SECRET not in caplog.text and SECRET not in str(raised.value) + raised.value.remedy


def test_the_secret_of_a_refused_address_is_told_to_nobody(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.status = 403
    url = f"json://user:{SECRET}@127.0.0.1:{service.port}/{SECRET}"
    with caplog.at_level("INFO"), pytest.raises(Unavailable) as raised:
        notifications.send(declared(url), "team", "alert.opened", ALERT)
    assert SECRET not in caplog.text and SECRET not in str(raised.value)


@pytest.mark.parametrize("kind", [*notifications.NEXT_STEPS, "drift.detected"])
@pytest.mark.parametrize("data", [ALERT, {"model": "m"}, {"model": "m", "reason": "{version} {nothing}"}])
def test_every_message_can_be_written(kind: str, data: dict[str, Any]) -> None:
    title, body = notifications.message(kind, data)
    assert "m" in title and "\n" not in title and body == body.strip()


def test_a_message_says_the_command_to_type() -> None:
    _, body = notifications.message("approval.requested", {"model": "m", "version": 4, "environment": "production"})
    assert 'modelyard approve m/4 --to production -m "why"' in body


@pytest.fixture(scope="module")
def pictures() -> dict[str, str]:
    """A column that moved, drawn by a monitor, and a measure over windows."""
    random = np.random.default_rng(1)
    reference = prepare(MemoryTable({"wind": random.normal(size=2000)}))
    now = sketch_table(reference, MemoryTable({"wind": random.normal(3, 1, size=2000)}))
    return {"wind speed": drawings.column(reference, now, "wind"), "auc": drawings.line([0.8, None, 0.7, 0.6], 0.75)}


class Mailbox:
    """What an SMTP server took."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))  # type: ignore[arg-type]
        return "250 OK"


def test_a_mail_carries_the_pictures_and_a_link(tmp_path: Path, pictures: dict[str, str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "server.json").write_text('{"url": "http://127.0.0.1:8600"}')
    mailbox = Mailbox()
    server = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    server.start()
    try:
        url = f"mailto://127.0.0.1:{server.port}?from=yard@example.org&to=ana@example.org&mode=insecure"
        about = {**ALERT, "alert": "a" * 32}
        notifications.send(declared(url), "team", "alert.opened", about, tmp_path, pictures=pictures)
    finally:
        server.stop()
    (mail,) = mailbox.mails
    assert "alert.opened" in mail["subject"] and mail["to"] == "ana@example.org"
    said = mail.get_body(("plain", "html")).get_content()  # type: ignore[union-attr]
    assert "roc_auc fell by 0.06" in said and f"http://127.0.0.1:8600/alerts/{'a' * 32}" in said
    found = {part.get_filename(): part.get_content() for part in mail.iter_attachments()}
    assert set(found) == {"wind-speed.png", "auc.png"}
    with Image.open(io.BytesIO(found["wind-speed.png"])) as drawn:
        assert drawn.size == ((260 + 16) * 2, (76 + 16) * 2)
        colours = {colour for _, colour in drawn.getcolors(1000)}  # type: ignore[union-attr]
        assert (255, 255, 255) in colours and len(colours) >= 3  # paper, before, now
    with Image.open(io.BytesIO(found["auc.png"])) as drawn:
        assert (31, 111, 235) in {colour for _, colour in drawn.getcolors(1000)}  # type: ignore[union-attr]


def test_a_webhook_gets_the_drawings_themselves(
    service: Service, pictures: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    url = f"http://127.0.0.1:{service.port}/hook"
    project = parse_project(f'[project]\nname = "p"\n[notify.team]\nurl = "{url}"\nsecret = "${{HOOK_SECRET}}"')
    notifications.send(project, "team", "alert.opened", ALERT, pictures=pictures)
    assert service.told[0]["data"]["pictures"] == pictures


def test_what_is_no_drawing_of_a_monitor_makes_no_picture() -> None:
    assert png.render("<svg></svg>") is None and png.render("hello") is None
    assert png.render("<svg width='9000' height='9000'></svg>") is None
    drawn = png.render(notifications.SAMPLE)
    assert drawn is not None and drawn.startswith(b"\x89PNG")
