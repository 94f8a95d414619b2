"""`modelyard up`: the server, a gateway for each environment, and the workers, under one supervisor."""

import asyncio
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from modelyard.cli.context import home, project_dir, running_server
from modelyard.cli.server import listen
from modelyard.domain.errors import ConfigError, Unavailable
from modelyard.domain.project import parse_project

if TYPE_CHECKING:
    from modelyard.deliver.deployments.supervisor import GatewaySpec

READY_S = 20.0


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind; loopback by default.")
@click.option("--port", default=8600, show_default=True, envvar="MODELYARD_PORT", help="0 picks a free one.")
@click.option(
    "--database", default="", envvar="MODELYARD_DATABASE", help="Database URL; SQLite in the yard by default."
)
@click.option(
    "--artifacts",
    default="",
    envvar="MODELYARD_ARTIFACTS",
    help="s3://bucket/prefix or a folder; in the yard by default.",
)
@click.option("--allow-host", "hosts", multiple=True, help="A further name by which clients may address the server.")
def up(host: str, port: int, database: str, artifacts: str, hosts: tuple[str, ...]) -> None:
    """Start the server, gateways and workers; stop with Ctrl-C."""
    from modelyard.deliver.deployments.supervisor import GatewaySpec, Supervisor  # late: --help needs none of it

    folder, project = home(), project_dir()
    running = running_server()
    if running:
        raise ConfigError(f"This yard is up already, at {running}.", remedy="Stop it first, or use it.")
    file = project / "modelyard.toml"
    declared = parse_project(file.read_text(), str(file))
    server_port = _usable(host, port)
    (folder / "run" / "server.json").unlink(missing_ok=True)
    command = [
        *(sys.executable, "-m", "modelyard", "server"),
        *("--home", str(folder), "--project", str(project), "--host", host, "--port", str(server_port)),
        *(("--artifacts", artifacts) if artifacts else ()),
        *(argument for name in hosts for argument in ("--allow-host", name)),
    ]
    if database:
        os.environ["MODELYARD_DATABASE"] = database  # not an argument: its password would be in the process list
    taken = {server_port}
    gateways: list[GatewaySpec] = []
    for offset, (name, environment) in enumerate(declared.environments.items(), start=1):
        wanted = environment.port or (0 if port == 0 else port + offset)
        chosen = _usable(host, wanted, taken)
        taken.add(chosen)
        gateways.append(GatewaySpec(name, host, chosen))
    supervisor = Supervisor(folder, command, gateways)

    async def run() -> None:
        greeting = asyncio.create_task(_greet(folder, gateways))
        await supervisor.run()
        greeting.cancel()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


def _usable(host: str, port: int, taken: set[int] | None = None) -> int:
    """A port that can be bound now: `port` itself, or a free one for 0. Raises ConfigError when it is in use."""
    while True:
        listener = listen(host, port)
        chosen = listener.getsockname()[1]
        listener.close()
        if chosen not in (taken or ()):
            return chosen


async def _greet(folder: Path, gateways: "list[GatewaySpec]") -> None:
    """Wait for the server and print how to get in."""
    from modelyard.client.api import Client

    started = time.monotonic()
    note = folder / "run" / "server.json"
    while not note.exists():
        if time.monotonic() - started > READY_S:
            raise Unavailable("The server did not start.", remedy=f"Read {folder / 'logs' / 'server.log'}.")
        await asyncio.sleep(0.05)
    url = json.loads(note.read_text())["url"]
    token = (
        os.environ.get("MODELYARD_TOKEN") or json.loads((folder / "credentials.json").read_text())["local"]["token"]
    )

    def sign_in() -> str:
        client = Client.connect(url, token)
        return client.url + client.call("POST", "/api/v1/sign-in")["path"]

    address = await asyncio.to_thread(sign_in)
    click.echo(f"modelyard is up after {time.monotonic() - started:.1f} s")
    click.echo(f"  console   {address}   (works once)")
    click.echo(f"  MLflow    export MLFLOW_TRACKING_URI={url}")
    for gateway in gateways:
        click.echo(f"  {gateway.environment:<9} http://{gateway.host}:{gateway.port}/endpoints/<name>/invocations")
    click.echo("Stop with Ctrl-C.")
