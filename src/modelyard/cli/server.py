"""`modelyard server`: the control plane alone, in this process."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from modelyard.client.trust import trust
from modelyard.domain.errors import ConfigError
from modelyard.kit.files import atomic_write
from modelyard.kit.listening import BACKLOG, bound

if TYPE_CHECKING:
    from modelyard.deliver.serving.certificates import Certificates

PEM = click.Path(path_type=Path, exists=True, dir_okay=False)


def tls_options(command: Callable[..., None]) -> Callable[..., None]:
    """--tls-certificate and --tls-key, of the commands that start a server."""
    key = click.option("--tls-key", type=PEM, envvar="MODELYARD_TLS_KEY", help="Its key, if it is not in that file.")
    certificate = click.option(
        "--tls-certificate", type=PEM, envvar="MODELYARD_TLS_CERTIFICATE", help="PEM file; HTTPS when given."
    )
    return certificate(key(command))


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
@tls_options
def server(
    home: Path,
    project: Path,
    host: str,
    port: int,
    database: str,
    artifacts: str,
    durability: str,
    hosts: tuple[str, ...],
    tls_certificate: Path | None,
    tls_key: Path | None,
) -> None:
    """Run the control plane: HTTP API, MLflow protocol, console, controller, scheduler, triggers."""
    import uvicorn  # late: --help must not load a server

    from modelyard.server.app import Server
    from modelyard.server.bootstrap import open_yard
    from modelyard.server.connection import Connection
    from modelyard.server.settings import Settings

    note, trusted = home / "run" / "server.json", home / "run" / "server-certificate.pem"
    certificates = _certificates(tls_certificate, tls_key, trusted)
    listener = listen(host, port)
    port = listener.getsockname()[1]
    durable = "power" if durability == "power" else "process"
    settings = Settings(host, port, database, artifacts, durable, hosts, tls=certificates is not None)
    yard = open_yard(home, project, settings)
    yard.certificates = certificates
    told: dict[str, Any] = {"url": settings.url, "pid": os.getpid()}
    if certificates is not None:
        told |= {"certificate": str(trusted.absolute()), "tls": [str(file) for file in certificates.files.every]}
        trust(told["certificate"])  # the commands that jobs run call this server

    def ready() -> None:
        listener.listen(BACKLOG)  # whoever reads the note may connect at once; uvicorn accepts a moment later
        atomic_write(note, msgspec.json.encode(told), durable=False)

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
    config.load()
    if certificates is not None:
        config.ssl = certificates.context
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        note.unlink(missing_ok=True)


def _certificates(certificate: Path | None, key: Path | None, trusted: Path) -> "Certificates | None":
    """Those of HTTPS; None without. Commands on this machine find them in `trusted` before they are in force.

    Raises ConfigError for a pair that does not fit in time.
    """
    if certificate is None:
        if key is not None:
            raise ConfigError(
                "--tls-key is given without --tls-certificate: nothing would be encrypted.", remedy="Give both."
            )
        return None
    from modelyard.deliver.serving.certificates import START_S, Certificates, InForce  # late: see server
    from modelyard.deliver.serving.tls import TlsFiles
    from modelyard.kit import x509

    def publish(*held: InForce) -> None:
        shown = [one for each in held for one in x509.certificates(each.certificate.decode())]
        atomic_write(trusted, "\n".join(shown).encode() + b"\n", durable=False)

    files = TlsFiles(certificate.absolute(), (key or certificate).absolute())
    found = Certificates(files, "--tls-certificate", publish, START_S)
    publish(found.held)
    return found


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises ConfigError that names the port and the way round it."""
    try:
        return bound(host, port)
    except OSError as error:
        raise ConfigError(
            f"Port {port} on {host} cannot be used: {error.strerror}.",
            remedy="Stop what listens there, or choose another: modelyard up --port 8700",
        ) from error
