"""`modelyard server`: the control plane alone, in this process."""

import os
import socket
from pathlib import Path

import click
import msgspec

from modelyard.domain.errors import ConfigError
from modelyard.kit.files import atomic_write

BACKLOG = 2048


@click.command()
@click.option("--home", required=True, type=click.Path(path_type=Path), help="The yard's folder.")
@click.option("--project", required=True, type=click.Path(path_type=Path), help="The folder with modelyard.toml.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8600, show_default=True, help="0 picks a free one.")
@click.option(
    "--database", default="", envvar="MODELYARD_DATABASE", help="Database URL; SQLite in the yard by default."
)
@click.option(
    "--artifacts",
    default="",
    envvar="MODELYARD_ARTIFACTS",
    help="s3://bucket/prefix or a folder; in the yard by default.",
)
@click.option("--durability", type=click.Choice(["process", "power"]), default="process", show_default=True)
@click.option("--allow-host", "hosts", multiple=True, help="A further name that clients may address.")
def server(
    home: Path,
    project: Path,
    host: str,
    port: int,
    database: str,
    artifacts: str,
    durability: str,
    hosts: tuple[str, ...],
) -> None:
    """Run the control plane: HTTP API, MLflow protocol, console, controller, scheduler, triggers."""
    import uvicorn  # late: --help must not load a server

    from modelyard.server.app import Server
    from modelyard.server.bootstrap import open_yard
    from modelyard.server.connection import Connection
    from modelyard.server.settings import Settings

    listener = listen(host, port)
    port = listener.getsockname()[1]
    settings = Settings(host, port, database, artifacts, "power" if durability == "power" else "process", hosts)
    yard = open_yard(home, project, settings)
    note = home / "run" / "server.json"
    url = f"http://{host}:{port}"

    def ready() -> None:
        listener.listen(BACKLOG)  # whoever reads the note may connect at once; uvicorn accepts a moment later
        atomic_write(note, msgspec.json.encode({"url": url, "pid": os.getpid()}), durable=False)

    config = uvicorn.Config(
        Server(yard, ready),
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=75,
        loop="uvloop",
        http=Connection,
        lifespan="on",
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        note.unlink(missing_ok=True)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises ConfigError that names the port and the way round it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"Port {port} on {host} cannot be used: {error.strerror}.",
            remedy="Stop what listens there, or choose another: modelyard up --port 8700",
        ) from error
    return listener
