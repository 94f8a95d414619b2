"""The demo's yard: a project, its processes, its people, and the channel that receives notifications."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from modelyard.client.api import Client, path
from modelyard.domain.errors import ModelyardError, Unavailable
from modelyard.kit.processes import die_with_parent

PATIENCE_S = 150.0


class Inbox:
    """A web server on loopback that takes notifications, as a chat service would."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", "0"))
                inbox.received.append(json.loads(self.rfile.read(length)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Keep the demo's own output readable."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self._server.server_port}/"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class House:
    """Starts `modelyard up` in the project and speaks with it as its people."""

    def __init__(self, project: Path, keep_running: bool) -> None:
        self.project = project
        self._keep_running = keep_running
        self.home = project / ".modelyard"
        self.inbox = Inbox()
        self._process: subprocess.Popen[bytes] | None = None
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("MODELYARD_")}
        self.environment["TEAM_NOTIFY_URL"] = self.inbox.url
        self.tokens: dict[str, str] = {}

    def start(self) -> float:
        """Bring the yard up; seconds until every gateway answers too."""
        started = time.monotonic()
        with (self.project / "up.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "modelyard", "up", "--port", "0"],
                cwd=self.project,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=None if self._keep_running else die_with_parent,
            )
        self.wait(lambda: (self.home / "run" / "server.json").exists(), "the server to start")
        return time.monotonic() - started

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)
        self.inbox.close()

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def url(self) -> str:
        return json.loads((self.home / "run" / "server.json").read_text())["url"]

    def gateway(self, environment: str) -> str:
        return json.loads((self.home / "run" / f"gateway-{environment}.json").read_text())["url"]

    def owner(self) -> Client:
        credentials = json.loads((self.home / "credentials.json").read_text())
        return Client.connect(self.url, credentials["local"]["token"])

    def hire(self, name: str, role: str) -> None:
        """Add a person with a role and a token."""
        owner = self.owner()
        credentials = json.loads((self.home / "credentials.json").read_text())
        self.tokens["owner"] = credentials["local"]["token"]
        owner.call("POST", path("principals"), body={"name": name, "roles": [role]})
        self.tokens[name] = owner.call("POST", path("tokens"), body={"principal": name})["token"]

    def client(self, name: str) -> Client:
        return Client.connect(self.url, self.tokens[name])

    def command(self, name: str, *arguments: str) -> str:
        """Run a modelyard command as a person; its output. Raises ModelyardError with its last words."""
        environment = {**self.environment, "MODELYARD_TOKEN": self.tokens[name]}
        done = subprocess.run(
            [sys.executable, "-m", "modelyard", *arguments],
            cwd=self.project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ModelyardError(done.stderr.strip().removeprefix("Error: "))
        return done.stdout

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """The condition's first true value. Raises Unavailable when it takes too long or the yard ended."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                value = condition()
            except Unavailable:
                value = None
            if value:
                return value
            if self._process is not None and self._process.poll() is not None:
                break
            time.sleep(0.1)
        raise Unavailable(f"The demo waited in vain for {what}.", remedy=f"Read {self.home / 'logs'} and up.log.")

    def newest(self, kind: str, **data: Any) -> dict[str, Any] | None:
        """The newest event of a type whose data holds these values."""
        return next(iter(self._events(kind, data)), None)

    def first(self, kind: str, **data: Any) -> dict[str, Any] | None:
        """The oldest such event."""
        return next(reversed(self._events(kind, data)), None)

    def _events(self, kind: str, data: dict[str, Any]) -> list[dict[str, Any]]:
        query = {"types": kind, "limit": 50, "newest": "true"}
        found = self.owner().call("GET", path("events"), query=query)["events"]
        return [event for event in found if all(event["data"].get(key) == value for key, value in data.items())]

    def endpoint(self, environment: str, name: str) -> dict[str, Any]:
        return self.owner().call("GET", path("environments", environment, "endpoints", name))
