"""`modelyard up`: the server, a gateway for each environment, and the workers, under one supervisor."""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from modelyard.cli.context import home, project_dir, running_server
from modelyard.cli.server import listen, tls_options
from modelyard.client.trust import trust
from modelyard.domain.errors import ConfigError, Unavailable
from modelyard.domain.project import parse_project

if TYPE_CHECKING:
    from modelyard.deliver.deployments.supervisor import GatewaySpec, Supervisor

READY_S = 60.0


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
@tls_options
def up(
    host: str,
    port: int,
    database: str,
    artifacts: str,
    hosts: tuple[str, ...],
    tls_certificate: Path | None,
    tls_key: Path | None,
) -> None:
    """Start the server, gateways and workers; stop with Ctrl-C."""
    from modelyard.deliver.deployments.clusters import require_ray  # late: --help needs none of these
    from modelyard.deliver.deployments.supervisor import GatewaySpec, Supervisor
    from modelyard.deliver.monitoring import addresses
    from modelyard.deliver.serving.certificates import awaited
    from modelyard.deliver.serving.tls import TlsFiles
    from modelyard.store.objects.bucket import check_installed

    folder, project = home(), project_dir()
    file = project / "modelyard.toml"
    declared = parse_project(file.read_text(), str(file))
    addresses.check(declared, str(file))
    if any(model.serving.queue.answers for model in declared.models.values()):
        check_installed("Taking asynchronous requests from S3")
    lock = claim(folder)
    server_port = _usable(host, port)
    (folder / "run" / "server.json").unlink(missing_ok=True)
    command = [
        *(sys.executable, "-m", "modelyard", "server"),
        *("--home", str(folder), "--project", str(project), "--host", host, "--port", str(server_port)),
        *(("--artifacts", artifacts) if artifacts else ()),
        *(argument for name in hosts for argument in ("--allow-host", name)),
        *(("--tls-certificate", str(tls_certificate)) if tls_certificate else ()),
        *(("--tls-key", str(tls_key)) if tls_key else ()),
    ]
    if database:
        os.environ["MODELYARD_DATABASE"] = database  # not an argument: its password would be in the process list
    taken = {server_port}
    gateways: list[GatewaySpec] = []
    for offset, (name, environment) in enumerate(declared.environments.items(), start=1):
        wanted = environment.port or (0 if port == 0 else port + offset)
        chosen = _usable(host, wanted, taken)
        taken.add(chosen)
        tls = None if environment.tls is None else TlsFiles.declared(project, environment.tls)
        if tls is not None:
            where = f"{file}: environments.{name}.tls"
            awaited(lambda tls=tls, where=where: tls.context(where))
        if environment.target == "ray":
            require_ray()
        named = tuple(environment.hosts)
        gateways.append(GatewaySpec(name, host, chosen, tls, named, environment.grpc_port))
    logging.basicConfig(format="%(asctime)s %(message)s")
    supervisor = Supervisor(folder, command, gateways)

    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_run(supervisor, folder, gateways))
    finally:
        lock.close()


async def _run(supervisor: "Supervisor", folder: Path, gateways: "list[GatewaySpec]") -> None:
    """Supervise until told to stop; when the server does not come up, stop everything and say why."""
    greeting = asyncio.create_task(_greet(supervisor, folder, gateways))
    running = asyncio.create_task(supervisor.run())
    await asyncio.wait({greeting, running}, return_when=asyncio.FIRST_COMPLETED)
    if greeting.done() and greeting.exception() is not None:
        supervisor.stop()
    await running
    if greeting.done():
        greeting.result()
    greeting.cancel()


def claim(folder: Path) -> IO[bytes]:
    """The yard's lock, held as long as the file is open. Raises ConfigError when somebody holds it, or the folder
    cannot be written.
    """
    try:
        (folder / "run").mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "run" / "up.lock").open("ab")
    except OSError as error:
        raise ConfigError(
            f"The yard folder {folder} cannot be written: {error.strerror}.",
            remedy="Free space or change its rights, or set MODELYARD_HOME to another folder.",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        at = running_server()
        raise ConfigError(
            f"This yard is up already{f', at {at}' if at else ''}.", remedy="Stop it first, or use it."
        ) from error
    return lock


def _usable(host: str, port: int, taken: set[int] | None = None) -> int:
    """A port that can be bound now: `port` itself, or a free one for 0. Raises ConfigError when it is in use."""
    while True:
        listener = listen(host, port)
        chosen = listener.getsockname()[1]
        listener.close()
        if chosen not in (taken or ()):
            return chosen


async def _greet(supervisor: "Supervisor", folder: Path, gateways: "list[GatewaySpec]") -> None:
    """Wait for the server and print how to get in. Raises Unavailable with its last words when it does not start."""
    from modelyard.client.api import Client
    from modelyard.deliver.deployments.measuring import last_error

    started = time.monotonic()
    note, log = folder / "run" / "server.json", folder / "logs" / "server.log"
    while not note.exists():
        if supervisor.server_ended or time.monotonic() - started > READY_S:
            raise Unavailable(f"The server did not start. {last_error(log)}", remedy=f"Its log: {log}.")
        await asyncio.sleep(0.05)
    told = json.loads(note.read_text())
    url = told["url"]
    trust(told.get("certificate"))
    token = (
        os.environ.get("MODELYARD_TOKEN") or json.loads((folder / "credentials.json").read_text())["local"]["token"]
    )

    def sign_in() -> str:
        client = Client.connect(url, token)
        return client.url + client.call("POST", "/api/v1/sign-in")["path"]

    address = await asyncio.to_thread(sign_in)
    click.echo(f"modelyard is up after {time.monotonic() - started:.1f} s")
    doors = [("console", f"{address}   (works once)"), ("MLflow", f"export MLFLOW_TRACKING_URI={url}")]
    doors += [(gateway.environment, f"{gateway.url}/endpoints/<name>/invocations") for gateway in gateways]
    width = max(len(name) for name, _ in doors)
    for name, where in doors:
        click.echo(f"  {name:<{width}} {where}")
    click.echo("Stop with Ctrl-C.")
