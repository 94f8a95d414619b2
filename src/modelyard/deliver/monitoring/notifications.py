"""Notifications through Apprise: about 100 services by one URL."""

import os
import re
from typing import Any

from modelyard.domain.errors import ConfigError, Unavailable
from modelyard.domain.project import Project

VARIABLE = re.compile(r"\$\{(\w+)\}")
NEXT_STEPS = {
    "alert.opened": "Look at it: modelyard alerts",
    "approval.requested": 'Decide: modelyard approve {model}/{version} --to {environment} -m "why"',
    "gates.failed": "Retraining does not help by itself: look at the evidence with modelyard versions {model}",
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


def message(kind: str, data: dict[str, Any]) -> tuple[str, str]:
    """(title, body) of a notification about an event."""
    model, version = data.get("model", ""), data.get("version", "")
    title = f"modelyard: {kind} {model}" + (f" v{version}" if version else "")
    said = data.get("title") or data.get("reason") or data.get("environment") or ""
    step = NEXT_STEPS.get(kind, "")
    return (
        title,
        f"{said}\n{step.format_map({'environment': '', **data, 'model': model, 'version': version})}".strip(),
    )


def send(project: Project, channel: str, kind: str, data: dict[str, Any]) -> None:
    """Deliver one notification. Raises ConfigError for a bad channel, Unavailable when the service refuses."""
    declared = project.notify.get(channel)
    if declared is None:
        raise ConfigError(
            f"There is no channel {channel!r}.", remedy=f"Declare [notify.{channel}] in modelyard.toml."
        )
    url = expand(declared.url)
    import apprise  # late: only a notification needs it

    service = apprise.Apprise()
    if not service.add(url):
        raise ConfigError(
            f"The address of channel {channel!r} is not one that Apprise knows.", remedy="See its docs."
        )
    title, body = message(kind, data)
    if not service.notify(title=title, body=body):
        raise Unavailable(
            f"The service of channel {channel!r} did not take the notification.", remedy="It is retried."
        )
