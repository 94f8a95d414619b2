"""Notifications: through Apprise (about 100 services by one URL), or as signed webhooks."""

import base64
import hashlib
import hmac
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelyard.deliver.monitoring import png
from modelyard.domain.errors import ConfigError, Unavailable
from modelyard.domain.project import Notify, Project
from modelyard.kit.clock import iso, now_ms
from modelyard.kit.ids import new_id

VARIABLE = re.compile(r"\$\{(\w+)\}")
TIMEOUT_S = 10.0
MOST_PICTURES = 4
GREY_AND_BLUE = "a column before (grey) and now (blue); a measure by window, with its limit dashed."
SAMPLE = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 60 40' width='60' height='40'>"
    "<rect x='0' y='20' width='20' height='20' fill='#8a94a3'/>"
    "<rect x='30' y='5' width='20' height='35' fill='#1f6feb'/></svg>"
)
"""The picture of a test message."""
NEXT_STEPS = {
    "alert.opened": "Look at it: modelyard alerts show {alert}",
    "approval.requested": 'Decide: modelyard approve {model}/{version} --to {environment} -m "why"',
    "gates.failed": "Retraining does not help by itself: look at the evidence with modelyard versions {model}",
    "retrain.unhelpful": "No further retrain starts by itself. Look at the data: modelyard monitor report {model}",
    "rollout.aborted": "The version before serves on. See: modelyard endpoints",
    "rollout.paused": "It waits for you: see modelyard endpoints",
}


def expand(text: str) -> str:
    """The text with ${NAME} replaced from the environment. Raises ConfigError for a name that is not set."""

    def value(found: re.Match[str]) -> str:
        held = os.environ.get(found[1])
        if held is None:
            raise ConfigError(
                f"The notification channel needs the environment variable {found[1]}.", remedy=f"Set {found[1]}."
            )
        return held

    return VARIABLE.sub(value, text)


def message(kind: str, data: dict[str, Any], link: str = "") -> tuple[str, str]:
    """(title, body) of a notification: what happened, what else the cause shows, what to do, a link."""
    model, version = data.get("model", ""), data.get("version", "")
    title = f"modelyard: {kind} {model}" + (f" v{version}" if version else "")
    said = data.get("title") or data.get("reason") or data.get("environment") or ""
    also = [f"also {name.replace('_', ' ')}: {text}" for name, text in (data.get("also") or {}).items()]
    values = {"environment": "", "alert": "", **data, "model": model, "version": version}
    values["alert"] = str(values["alert"])[:8]
    step = NEXT_STEPS.get(kind, "").format_map(values)
    return title, "\n".join(line.strip() for line in [said, *also, step, link] if line.strip())


def send(
    project: Project,
    channel: str,
    kind: str,
    data: dict[str, Any],
    home: Path | None = None,
    key: str | None = None,
    pictures: Mapping[str, str] | None = None,
) -> None:
    """Deliver one notification. key: the same for every attempt, so that a receiver may drop what it has seen.

    pictures: drawings as SVG by name. A webhook gets them in `data.pictures`; a service that takes files (mail and
    most chats) as PNG.

    Raises ConfigError for a bad channel, Unavailable when the service refuses.
    """
    declared = project.notify.get(channel)
    if declared is None:
        raise ConfigError(
            f"There is no channel {channel!r}.", remedy=f"Declare [notify.{channel}] in modelyard.toml."
        )
    link = _link(home, data)
    if declared.secret is not None:
        drawn = {"pictures": dict(pictures)} if pictures else {}
        _post_signed(declared, channel, kind, {**data, "link": link, **drawn}, key or new_id())
    else:
        _send_by_apprise(expand(declared.url), channel, *message(kind, data, link), pictures or {})


def _send_by_apprise(url: str, channel: str, title: str, body: str, pictures: Mapping[str, str]) -> None:
    import apprise  # late: only a notification needs it

    service = apprise.Apprise()
    if not service.add(url):
        raise ConfigError(
            f"The address of channel {channel!r} is not one that Apprise knows.", remedy="See its docs."
        )
    files = _files(pictures)
    if files:
        body += f"\n\nIn the pictures: {GREY_AND_BLUE}"
    if not service.notify(title=title, body=body, attach=files or None):
        raise Unavailable(
            f"The service of channel {channel!r} did not take the notification.", remedy="It is retried."
        )


def _files(pictures: Mapping[str, str]) -> list[Any]:
    """The pictures as PNG files in memory; one that cannot be drawn is left out."""
    from apprise.attachment.memory import AttachMemory  # late: see above

    found: list[Any] = []
    for name, svg in list(pictures.items())[:MOST_PICTURES]:
        drawn = png.render(svg)
        if drawn is not None:
            plain = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:60] or "picture"
            found.append(AttachMemory(content=drawn, name=f"{plain}.png", mimetype="image/png"))
    return found


def _post_signed(declared: Notify, channel: str, kind: str, data: dict[str, Any], key: str) -> None:
    """POST a CloudEvent with the headers of Standard Webhooks: webhook-id, webhook-timestamp, webhook-signature."""
    import urllib3  # late: see above

    now = now_ms()
    event = {
        "specversion": "1.0",
        "id": key,
        "source": "/modelyard",
        "type": f"dev.modelyard.{kind}",
        "time": iso(now),
        "datacontenttype": "application/json",
        "data": data,
    }
    body = json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()
    stamp = str(now // 1000)
    headers = {
        "content-type": "application/cloudevents+json",
        "webhook-id": key,
        "webhook-timestamp": stamp,
        "webhook-signature": sign(expand(declared.secret or ""), key, stamp, body),
    }
    try:
        pool = urllib3.PoolManager(timeout=TIMEOUT_S, retries=False)
        answer = pool.request("POST", expand(declared.url), body=body, headers=headers)
    except urllib3.exceptions.LocationValueError as error:
        raise ConfigError(f"The address of channel {channel!r} is no URL.", remedy="Write https://...") from error
    except urllib3.exceptions.HTTPError as error:
        raise Unavailable(f"The webhook of channel {channel!r} does not answer.", remedy="It is retried.") from error
    if answer.status >= 300:
        raise Unavailable(f"The webhook of channel {channel!r} answered {answer.status}.", remedy="It is retried.")


def sign(secret: str, key: str, stamp: str, body: bytes) -> str:
    """`v1,` and the base64 HMAC-SHA-256 of `id.timestamp.body`, as Standard Webhooks has it."""
    digest = hmac.new(secret.encode(), f"{key}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _link(home: Path | None, data: dict[str, Any]) -> str:
    """The page about it on this yard's running server; empty when there is none."""
    if home is None:
        return ""
    try:
        url = json.loads((home / "run" / "server.json").read_text())["url"]
    except (OSError, ValueError, KeyError):
        return ""
    return f"{url}/alerts/{data['alert']}" if data.get("alert") else url
