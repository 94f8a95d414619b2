"""What the demo prints: chapters, the commands a person would have typed, events as they happen, the time."""

import threading
import time
from typing import Any

import click

from modelyard.client.api import Client
from modelyard.domain.errors import Unavailable

HIDDEN_TYPES = frozenset({"token.created", "run.created", "run.ended", "experiment.created", "logged-model.created"})
"""Events that the log keeps but a story does not tell."""


class Narrator:
    """Prints the story; `follow` prints the yard's events from a thread while the story goes on."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.transcript: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._seen = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def chapter(self, number: int, title: str) -> None:
        self._print("chapter", f"\n{number}. {title}", bold=True)

    def command(self, text: str) -> None:
        self._print("command", f"   $ {text}", fg="cyan")

    def say(self, text: str) -> None:
        self._print("text", f"     {text}")

    def follow(self, client: Client) -> None:
        """Print events of `client`'s yard, from now on, until `close`."""
        self._thread = threading.Thread(target=self._follow, args=(client,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _follow(self, client: Client) -> None:
        while not self._stop.wait(0.3):
            try:
                self.catch_up(client)
            except Unavailable:  # the server restarts: what it logged meanwhile is read when it is back
                continue

    def catch_up(self, client: Client) -> None:
        """Print every event that was not printed yet."""
        for event in client.call("GET", "/api/v1/events", query={"after": self._seen, "limit": 500})["events"]:
            self._seen = event["seq"]
            if event["type"] not in HIDDEN_TYPES:
                self._print("event", f"     · {event['type']:<22} {describe(event)}", dim=True)

    def _print(self, kind: str, text: str, **style: Any) -> None:
        with self._lock:
            self.transcript.append((kind, text.strip()))
            click.echo(click.style(f"{self.seconds:6.1f}s ", dim=True) + click.style(text.lstrip("\n"), **style))


def describe(event: dict[str, Any]) -> str:
    """One line about an event: its subject and what matters most of its data."""
    data = event["data"]
    told = [event["subject"]]
    for key in ("environment", "share", "reason", "why", "title", "comment", "alias", "channel", "states"):
        value = data.get(key)
        if value not in (None, "", []):
            told.append(f"{key}={value}" if not isinstance(value, str) else value)
    if event["actor"] != "modelyard":
        told.append(f"by {event['actor']}")
    return "  ".join(str(part) for part in told)[:150]
