"""`modelyard serve-agent`: a gateway and workers on a machine of their own, in line with a hub."""

import asyncio
import contextlib
import logging
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from modelyard.cli.server import listen
from modelyard.cli.up import claim
from modelyard.client import api
from modelyard.client.api import Client
from modelyard.domain.errors import Invalid, Unauthenticated

PEM = click.Path(exists=True, dir_okay=False, path_type=Path)


class ClientHub:
    """Implements `modelyard.deliver.deployments.agent.Hub` over the client's calls."""

    def __init__(self, client: Client, environment: str, name: str) -> None:
        self._client, self._environment, self._name = client, environment, name

    def placement(self) -> Any:
        from modelyard.deliver.deployments.placement import Placement  # late: --help needs none of it

        answer = self._client.call("GET", api.path("environments", self._environment, "placement"))
        return msgspec.convert(answer, Placement)

    def report(self, said: dict[str, Any]) -> list[str]:
        where = api.path("environments", self._environment, "agents", self._name)
        return self._client.call("POST", where, body=said)["recorded"]

    def arrived(self, segment: Any) -> tuple[int, bool]:
        answer = self._client.call("GET", self._segment(segment))
        return answer["received"], answer["whole"]

    def send(self, segment: Any, offset: int, size: int, digest: str, data: bytes) -> None:
        query = f"?offset={offset}&size={size}&digest={digest}"
        self._client.upload("POST", self._segment(segment) + query, data)

    def send_labels(self, endpoint: str, labels: list[Any]) -> None:
        where = api.path("environments", self._environment, "endpoints", endpoint, "ground-truth")
        self._client.call("POST", where, body={"labels": msgspec.to_builtins([label.sent() for label in labels])})

    def _segment(self, segment: Any) -> str:
        return api.path(
            "environments", self._environment, "endpoints", segment.endpoint, "log", segment.log, segment.name
        )

    def fetch(self, model: str, version: int, path: str, target: Path) -> None:
        where = api.path("models", model, "versions", version, "files") + f"/{quote(path)}"
        target.write_bytes(self._client.download(where))


@click.command("serve-agent")
@click.option("--hub", envvar="MODELYARD_URL", required=True, help="The hub's URL.")
@click.option("--environment", required=True, help="Which environment this machine serves.")
@click.option("--home", type=click.Path(path_type=Path), default=Path(".modelyard-agent"), show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind; loopback by default.")
@click.option("--port", default=8600, show_default=True, help="The gateway's port; 0 picks a free one.")
@click.option("--name", default=socket.gethostname, help="What the hub calls this machine; its host name by default.")
@click.option("--spool-mb", default=1024, show_default=True, help="How much prediction log waits for the hub here.")
@click.option("--tls-certificate", "certificate", type=PEM, help="PEM file; the gateway speaks HTTPS.")
@click.option("--tls-key", "key", type=PEM, help="PEM file; in the certificate's by default.")
@click.option("--client-ca", type=PEM, help="PEM file; callers must show a certificate that it signed.")
@click.option("--allow-host", "hosts", multiple=True, help="A further name by which clients may address the gateway.")
@click.option(
    "--ray", metavar="HOST:PORT", help="Run the workers on the nodes of this Ray cluster; 'auto': this machine's."
)
def serve_agent(
    hub: str,
    environment: str,
    home: Path,
    host: str,
    port: int,
    name: str,
    spool_mb: int,
    certificate: Path | None,
    key: Path | None,
    client_ca: Path | None,
    hosts: tuple[str, ...],
    ray: str | None,
) -> None:
    """Serve what a hub approved for an environment; goes on while the hub is gone. Stop with Ctrl-C.

    The credential is a service's: modelyard role add NAME service-endpoint --service; its token in MODELYARD_TOKEN.
    """
    from modelyard.deliver.deployments.agent import Agent  # late: --help needs none of these
    from modelyard.deliver.deployments.clusters import require_ray
    from modelyard.deliver.deployments.supervisor import GatewaySpec, Supervisor
    from modelyard.deliver.serving.tls import TlsFiles

    token = os.environ.get("MODELYARD_TOKEN")
    if not token:
        raise Unauthenticated(
            "There is no credential for the hub.", remedy="Set MODELYARD_TOKEN to the token of a service-endpoint."
        )
    lock = claim(home)
    listener = listen(host, port)
    chosen = listener.getsockname()[1]
    listener.close()

    if certificate is None and (key or client_ca):
        raise Invalid(
            "--tls-key and --client-ca need --tls-certificate.", remedy="Add it: nothing would be encrypted."
        )
    tls = None if certificate is None else TlsFiles(certificate, key or certificate, client_ca)
    if tls is not None:
        tls.context("--tls-certificate")
    if ray is not None:
        require_ray()
    gateway = GatewaySpec(environment, host, chosen, tls, hosts)

    async def run() -> None:
        logging.basicConfig(format="%(asctime)s %(message)s")
        supervisor = Supervisor(home, None, [gateway])
        there = ClientHub(Client.connect(hub, token), environment, name)
        agent = asyncio.create_task(Agent(there, home, environment, spool_mb << 20, ray).run())
        click.echo(f"serving {environment} at {gateway.url}/endpoints/<name>/invocations, hub {hub}")
        await supervisor.run()
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)

    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(run())
    finally:
        lock.close()
