"""Where a command works: the project folder, its yard, and a client of it."""

import json
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from modelyard.client.trust import trust
from modelyard.domain.errors import ConfigError, Unauthenticated

if TYPE_CHECKING:
    from modelyard.client.api import Client

PROJECT_FILE = "modelyard.toml"


def project_dir() -> Path:
    """The nearest folder, from here upwards, that holds a modelyard.toml. Raises ConfigError when there is none."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / PROJECT_FILE).exists():
            return folder
    raise ConfigError(
        f"There is no {PROJECT_FILE} in {here} or above it.",
        remedy="Make a project: modelyard init FOLDER --data FILE --target COLUMN",
    )


def home() -> Path:
    """The yard's folder: $MODELYARD_HOME, or `.modelyard` in the project."""
    named = os.environ.get("MODELYARD_HOME")
    return Path(named) if named else project_dir() / ".modelyard"


def running_server() -> str | None:
    """The URL of this yard's running server; None when there is none."""
    try:
        found = json.loads((home() / "run" / "server.json").read_text())
        os.kill(found["pid"], 0)
    except (OSError, ValueError, KeyError):
        return None
    trust(found.get("certificate"))
    return found["url"]


def client_certificate() -> tuple[str, str] | None:
    """The certificate that gateways with mutual TLS are shown, and its key, as $MODELYARD_CLIENT_CERTIFICATE says."""
    certificate = os.environ.get("MODELYARD_CLIENT_CERTIFICATE")
    return (certificate, os.environ.get("MODELYARD_CLIENT_KEY") or certificate) if certificate else None


def stored_token() -> str:
    """$MODELYARD_TOKEN, or the credential that the first start stored. Raises Unauthenticated."""
    named = os.environ.get("MODELYARD_TOKEN")
    if named:
        return named
    try:
        return json.loads((home() / "credentials.json").read_text())["local"]["token"]
    except (OSError, ValueError, KeyError) as error:
        raise Unauthenticated(
            f"There is no credential in {home()}.", remedy="Set MODELYARD_TOKEN, or start the yard here: modelyard up"
        ) from error


def connection_to(url: str, timeout_s: float) -> "Client":
    """A client that waits no longer than `timeout_s` for an answer."""
    from modelyard.client.api import Client  # late: see `client`
    from modelyard.client.transport import HttpTransport

    return Client(HttpTransport(url, timeout_s), stored_token())


def _warn_of_an_older_project() -> None:
    """The server reads the project file when it starts."""
    try:
        started = (home() / "run" / "server.json").stat().st_mtime_ns
        changed = (project_dir() / PROJECT_FILE).stat().st_mtime_ns
    except (OSError, ConfigError):
        return
    if changed > started:
        click.echo(f"{PROJECT_FILE} changed after the server had read it. To use it: modelyard reload", err=True)


@cache
def client() -> "Client":
    """A client of $MODELYARD_URL, of this yard's running server, or else of the yard itself in this process."""
    from modelyard.client.api import Client  # late: commands that only print help need no HTTP library

    named = os.environ.get("MODELYARD_URL")
    url = named or running_server()
    if url:
        if not named:
            _warn_of_an_older_project()
        return Client.connect(url, stored_token())
    from modelyard.client.transport import InProcessTransport  # late: only embedded use loads the server
    from modelyard.server.app import Embedded
    from modelyard.server.bootstrap import open_yard
    from modelyard.server.settings import Settings

    folder = home()
    where = project_dir() if not os.environ.get("MODELYARD_HOME") else Path.cwd()
    yard = open_yard(
        folder,
        where,
        Settings(
            loops=False,
            database=os.environ.get("MODELYARD_DATABASE", ""),
            artifacts=os.environ.get("MODELYARD_ARTIFACTS", ""),
        ),
    )
    return Client(InProcessTransport(Embedded(yard)), stored_token())
