"""One version served alone, without a yard: what a container image runs. The supervisor, a gateway and its worker.

python -m modelyard.deliver.deployments.standalone --model-dir /model --manifest /manifest.json --port 8080

Who may ask stands in MODELYARD_TOKEN_DIGESTS (SHA-256 of tokens, separated by commas), the names by which clients
address it in MODELYARD_HOSTS.
"""

import argparse
import asyncio
import os
import re
import sys
from pathlib import Path

import msgspec

from modelyard.deliver.deployments import files, places
from modelyard.deliver.deployments.supervisor import GatewaySpec, Supervisor
from modelyard.deliver.serving.spec import WorkerSpec
from modelyard.domain.errors import ConfigError, ModelyardError

ENVIRONMENT = "standalone"
DIGEST = re.compile(r"^[0-9a-f]{64}$")


class Manifest(msgspec.Struct, frozen=True):
    """What an image holds: the version, and the SHA-256 of each of its files."""

    model: str
    version: int
    digest: str
    files: dict[str, str]


def prepare(home: Path, model_dir: Path, manifest: Manifest, digests: list[str], hosts: list[str]) -> None:
    """Write what the supervisor and the gateway follow. Raises ConfigError for what is not a token digest."""
    for digest in digests:
        if not DIGEST.match(digest):
            raise ConfigError(
                "MODELYARD_TOKEN_DIGESTS holds what is no SHA-256 digest.",
                remedy="Make one: printf %s TOKEN | sha256sum",
            )
    deployment = manifest.digest[:32]
    folder = places.serving(home, ENVIRONMENT)
    socket = str(places.worker_socket(home, deployment))
    worker = WorkerSpec(
        id=places.worker_id(deployment),
        deployment=deployment,
        model=manifest.model,
        version=manifest.version,
        digest=manifest.digest,
        model_dir=str(model_dir),
        manifest=manifest.files,
        socket=socket,
    )
    target = {"deployment": deployment, "version": manifest.version, "weight": 1.0, "sockets": [socket]}
    routing = {
        "environment": ENVIRONMENT,
        "tokens": dict.fromkeys(digests, "caller"),
        "endpoints": {manifest.model: {"model": manifest.model, "routes": [target]}},
        "hosts": hosts,
    }
    files.write_if_changed(folder / "desired.json", {"environment": ENVIRONMENT, "workers": [worker]})
    files.write_if_changed(folder / "routing.json", routing)


def _listed(name: str) -> list[str]:
    return [item.strip() for item in os.environ.get(name, "").split(",") if item.strip()]


def main() -> int:
    parser = argparse.ArgumentParser(description="serve one model version alone")
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--home", type=Path, default=Path("/run/modelyard"))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()
    try:
        manifest = msgspec.json.decode(arguments.manifest.read_bytes(), type=Manifest)
        digests, hosts = _listed("MODELYARD_TOKEN_DIGESTS"), _listed("MODELYARD_HOSTS")
        prepare(arguments.home, arguments.model_dir, manifest, digests, hosts)
        gateway = GatewaySpec(ENVIRONMENT, arguments.host, arguments.port)
        asyncio.run(Supervisor(arguments.home, None, [gateway]).run())
    except (ModelyardError, OSError, msgspec.DecodeError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
