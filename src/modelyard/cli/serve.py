"""`modelyard serve`: one model folder as an HTTP service, with no hub."""

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from modelyard.cli import libraries
from modelyard.cli.server import listen
from modelyard.domain.errors import Invalid
from modelyard.domain.serving import Libraries

ANY_HOST = ("0.0.0.0", "::")
EXTRA = ("click", "uvicorn", "httptools")
"""What this command needs in an environment of the model's own."""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="MODEL_DIR")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind; loopback by default.")
@click.option("--port", default=8080, show_default=True, envvar="SAGEMAKER_BIND_TO_PORT", help="0 picks a free one.")
@click.option("--name", default="model", show_default=True, help="The model's name on the Open Inference paths.")
@click.option("--version", "number", default="1", show_default=True, help="Its version there.")
@click.option("--manifest", type=click.Path(path_type=Path), help="Name, version and digests, as build-image writes.")
@click.option("--allow-host", "hosts", multiple=True, help="A further name by which clients may address the server.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds until a request is answered 504.")
@click.option("--max-body", default=6_291_456, show_default=True, help="The largest body in bytes.")
@click.option("--memory-mb", type=int, help="Private memory that the process may use.")
@libraries.option
def serve(
    folder: Path, host: str, port: int, name: str, number: str, manifest: Path | None, hosts: tuple[str, ...],
    timeout: float, max_body: int, memory_mb: int | None, wanted: Libraries,
) -> None:  # fmt: skip
    """Serve the MLflow model in MODEL_DIR until SIGTERM: /ping, /invocations, /predict, /v2, /v1, /docs.

    Who may ask: MODELYARD_TOKEN_DIGESTS, SHA-256 digests of tokens, separated by commas. Without it there is no
    authentication: bind to loopback, or stand behind a front that has it. MODELYARD_HOSTS adds to --allow-host.
    """
    if not (folder / "MLmodel").exists():
        raise Invalid(f"{folder} holds no MLmodel file.", remedy="Name a folder that log_model or save_model wrote.")
    python = libraries.python_of(folder, wanted, EXTRA)
    if python is not None:
        _become(python)
    listener = listen(host, port)
    from modelyard.deliver.serving import standalone  # late: --help needs none of it
    from modelyard.deliver.serving.routing import Limits

    of = standalone.read_manifest(manifest) if manifest else standalone.Manifest(name, number)
    named = [*hosts, *_listed("MODELYARD_HOSTS")]
    access = standalone.access(_listed("MODELYARD_TOKEN_DIGESTS"), named)
    at = f"http://{host}:{listener.getsockname()[1]}"
    click.echo(f"{of.model} v{of.version} at {at} (try it: /docs). Stop with Ctrl-C.")
    limits = Limits(max_body_bytes=max_body, timeout_s=timeout)
    standalone.serve(folder, of, listener, limits, access, host in ANY_HOST and not named, memory_mb)


def _become(python: str) -> NoReturn:
    """The same command by another interpreter, in this process."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # it leads to ours
    os.execve(python, [python, "-m", "modelyard", *sys.argv[1:], "--libraries", "shared"], inherited)


def _listed(name: str) -> list[str]:
    return [item.strip() for item in os.environ.get(name, "").split(",") if item.strip()]
