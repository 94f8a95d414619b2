"""The gateway's process: arguments, sockets, HTTP server, admin socket, end."""

import argparse
import asyncio
import errno
import resource
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from modelyard.deliver.serving import frames
from modelyard.deliver.serving.arriving import BoundedPath
from modelyard.deliver.serving.certificates import START_S, Certificates
from modelyard.deliver.serving.gateway import Gateway
from modelyard.deliver.serving.routing import LEAST_DRAIN_S, MOST_DRAIN_S
from modelyard.deliver.serving.tls import TlsFiles
from modelyard.domain.errors import ConfigError, ModelyardError
from modelyard.kit import garbage
from modelyard.kit.listening import BACKLOG, bound
from modelyard.kit.processes import die_with_parent

KEEP_ALIVE_S = 75
"""Longer than the idle time of common clients and proxies, so that a pooled connection is theirs to close."""


async def serve_admin(gateway: Gateway, path: Path) -> asyncio.Server:
    """Answer PING frames on a Unix socket with the gateway's statistics; by then the newest routing is in force."""

    def on_frames(connection: frames.FrameConnection, received: list[frames.Frame]) -> None:
        gateway.follow()
        for frame in received:
            connection.send(frames.encode(frame.id, frames.PONG, b"", msgspec.json.encode(gateway.stats())))

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: frames.FrameConnection(on_frames, lambda: None), str(path))
    path.chmod(0o600)
    return server


def listen(arguments: argparse.Namespace) -> socket.socket:
    """The listening socket, taken before anything else of a running gateway's is touched. Raises OSError."""
    if arguments.listen_fd is not None:
        listener = socket.socket(fileno=arguments.listen_fd)
    else:
        listener = bound(arguments.host, arguments.port)
        listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def raise_file_limit() -> None:
    """Let this process hold as many connections as the system allows it; the default is often 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Draining(uvicorn.Server):
    """A server that ends once what it was asked is answered."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, grpc: Any) -> None:
        super().__init__(config)
        self._gateway, self._grpc = gateway, grpc

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nothing new, over HTTP or gRPC, and answer the rest."""
        drain_s = min(max(LEAST_DRAIN_S, self._gateway.patience_s), MOST_DRAIN_S)
        self.config.timeout_graceful_shutdown = int(drain_s)
        stopping = asyncio.ensure_future(self._grpc.stop(drain_s)) if self._grpc is not None else None
        await super().shutdown(sockets)
        if stopping is not None:
            await stopping


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="the data plane's front")
    parser.add_argument("--environment", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--listen-fd", type=int, help="an inherited socket that listens there already")
    parser.add_argument("--grpc-port", type=int, default=0, help="the Open Inference Protocol over gRPC; 0: none")
    parser.add_argument("--admin-socket", type=Path, required=True)
    parser.add_argument("--tls-certificate", type=Path, help="PEM file; HTTPS when given")
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--client-ca", type=Path, help="PEM file; callers must show a certificate that it signed")
    parser.add_argument("--allow-host", dest="hosts", action="append", default=[], help="a name that clients use")
    parser.add_argument("--keep-alive", type=int, default=KEEP_ALIVE_S, help="seconds that unused connections stay")
    given = parser.parse_args()
    if given.tls_certificate is None and (given.client_ca is not None or given.tls_key is not None):
        parser.error("--client-ca and --tls-key need --tls-certificate: without it nothing would be encrypted.")
    return given


def certificates(arguments: argparse.Namespace) -> Certificates | None:
    """The TLS files in force; None without. Raises ConfigError for files that do not fit in time."""
    if arguments.tls_certificate is None:
        return None
    key = arguments.tls_key or arguments.tls_certificate
    files = TlsFiles(arguments.tls_certificate, key, arguments.client_ca)
    return Certificates(files, "--tls-certificate", patience_s=START_S)


async def serve_grpc(gateway: Gateway, arguments: argparse.Namespace) -> Any:
    """The started gRPC server, with the same certificates; stopped by its `stop`. Raises MissingExtra, OSError."""
    from modelyard.deliver.serving import grpc_front  # late: an extra

    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    return await grpc_front.serve(gateway, f"{host}:{arguments.grpc_port}")


def main() -> int:
    import uvloop

    arguments = _arguments()
    die_with_parent()
    raise_file_limit()
    try:
        listener = listen(arguments)
    except OSError as error:
        why = "address already in use" if error.errno == errno.EADDRINUSE else str(error)
        print(f"The gateway cannot listen on {arguments.host}:{arguments.port}: {why}.", file=sys.stderr)
        return 1
    try:
        tls = certificates(arguments)
    except ConfigError as error:
        print(f"The gateway cannot start: {error}", file=sys.stderr)
        return 1
    gateway = Gateway(arguments.environment, arguments.folder, tuple(arguments.hosts), tls)
    config = uvicorn.Config(
        gateway,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        loop="uvloop",
        http=partial(BoundedPath, gateway),  # type: ignore[arg-type]  # it is only called
        lifespan="on",
        timeout_keep_alive=arguments.keep_alive,
        proxy_headers=False,
        ws="none",
    )

    async def run() -> None:
        admin = await serve_admin(gateway, arguments.admin_socket)
        grpc = await serve_grpc(gateway, arguments) if arguments.grpc_port else None
        config.load()
        if tls is not None:
            config.ssl = tls.context
        garbage.settle()
        await Draining(config, gateway, grpc).serve(sockets=[listener])
        admin.close()

    try:
        uvloop.run(run())
    except (ModelyardError, OSError) as error:
        print(f"The gateway cannot start: {error}", file=sys.stderr)
        return 1
    return 0
