"""`modelyard reload`: the server reads the project file anew, while gateways and workers go on answering."""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import click

from modelyard.cli.context import PROJECT_FILE, connection_to, home, project_dir, running_server
from modelyard.client.api import path
from modelyard.domain.errors import ModelyardError, Unavailable
from modelyard.domain.project import parse_project

READY_S = 60.0
GATEWAYS = ("port", "grpc_port", "tls", "hosts", "target", "ray")
"""What a gateway is started with: only the next start brings it."""


@click.command()
def reload() -> None:
    """Have a running yard use a changed modelyard.toml; no request fails.

    The server begins anew. Workers that are wanted otherwise by now, such as with more memory, are replaced by ones
    that answer already. Environments, their ports, names and which files their certificates are in need a new start
    of `modelyard up`; renewed files do not.
    """
    import msgspec  # late: --help needs none of it

    from modelyard.deliver.deployments.supervisor import RELOAD
    from modelyard.deliver.monitoring import addresses

    file = project_dir() / PROJECT_FILE
    project = parse_project(file.read_text(), str(file))
    addresses.check(project, str(file))
    after = msgspec.to_builtins(project.environments)
    supervisor, note = _supervisor(), home() / "run" / "server.json"
    _check_certificate(note)
    before, server = _read_by_the_server(), _pid(note)
    os.kill(supervisor, RELOAD)
    deadline = time.monotonic() + READY_S
    while _pid(note) in (None, server):
        if time.monotonic() > deadline:
            raise Unavailable("The server does not come back.", remedy=f"Its log: {home() / 'logs' / 'server.log'}.")
        time.sleep(0.05)
    click.echo(f"The server has read {PROJECT_FILE} anew; gateways and workers go on.")
    for name in _waiting(before, after):
        click.echo(f"  {name}: with the next start of `modelyard up`")


def _supervisor() -> int:
    """The process of `modelyard up`. Raises Unavailable."""
    for file in (home() / "run").glob("gateway-*.json"):
        told = json.loads(file.read_text())
        with contextlib.suppress(ProcessLookupError):
            os.kill(told["pid"], 0)
            if told.get("reloads"):
                return told["pid"]
    raise Unavailable("This yard is not up.", remedy="Start it: modelyard up")


def _check_certificate(note: Path) -> None:
    """Raise ConfigError where the server could not begin anew with the certificate that lies there now."""
    from modelyard.deliver.serving.tls import TlsFiles  # late: see above

    with contextlib.suppress(FileNotFoundError):
        files = json.loads(note.read_text()).get("tls")
        if files:
            TlsFiles(*map(Path, files)).context("the server's certificate")


def _pid(note: Path) -> int | None:
    try:
        return json.loads(note.read_text())["pid"]
    except (OSError, ValueError, KeyError):
        return None


def _read_by_the_server() -> dict[str, dict[str, Any]] | None:
    """The environments of the project that the server has read; None when it does not answer."""
    url = running_server()
    with contextlib.suppress(ModelyardError):
        return connection_to(url, 5.0).call("GET", path("project"))["environments"] if url else None
    return None


def _waiting(before: dict[str, dict[str, Any]] | None, after: dict[str, dict[str, Any]]) -> list[str]:
    """What of the project needs more than a server that begins anew."""
    if before is None:
        return []
    found = [f"environments.{name}" for name in sorted(before.keys() ^ after.keys())]
    both = [name for name in after if name in before]
    return found + [f"environments.{n}.{key}" for n in both for key in GATEWAYS if before[n][key] != after[n][key]]
