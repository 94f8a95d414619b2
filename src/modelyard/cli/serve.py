"""`modelyard serve`: one model folder as an HTTP service, with no hub."""

from pathlib import Path

import click

from modelyard.cli.server import listen
from modelyard.domain.errors import Invalid

ANY_HOST = ("0.0.0.0", "::")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="MODEL_DIR")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind; loopback by default.")
@click.option("--port", default=8080, show_default=True, envvar="SAGEMAKER_BIND_TO_PORT", help="0 picks a free one.")
@click.option("--name", default="model", show_default=True, help="The model's name on the Open Inference paths.")
@click.option("--version", "number", default="1", show_default=True, help="Its version there.")
@click.option("--allow-host", "hosts", multiple=True, help="A further name by which clients may address the server.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds until a request is answered 504.")
@click.option("--max-body", default=6_291_456, show_default=True, help="The largest body in bytes.")
@click.option("--memory-mb", type=int, help="Private memory that the process may use.")
def serve(
    folder: Path, host: str, port: int, name: str, number: str, hosts: tuple[str, ...], timeout: float,
    max_body: int, memory_mb: int | None,
) -> None:  # fmt: skip
    """Serve the MLflow model in MODEL_DIR until SIGTERM: /ping, /invocations, /predict, /v2, /v1, /docs.

    There is no authentication: bind to loopback, or stand behind a front that has it.
    """
    if not (folder / "MLmodel").exists():
        raise Invalid(f"{folder} holds no MLmodel file.", remedy="Name a folder that log_model or save_model wrote.")
    listener = listen(host, port)
    from modelyard.deliver.serving import standalone  # late: --help needs none of it
    from modelyard.deliver.serving.routing import Limits

    click.echo(f"{name} v{number} at http://{host}:{listener.getsockname()[1]} (try it: /docs). Stop with Ctrl-C.")
    anybody = host in ANY_HOST and not hosts
    limits = Limits(max_body_bytes=max_body, timeout_s=timeout)
    standalone.serve(folder, name, number, listener, limits, None if anybody else hosts, memory_mb)
