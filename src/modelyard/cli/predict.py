"""`modelyard predict`: ask an endpoint, or predict whole files with a version."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from modelyard.cli import libraries
from modelyard.cli.context import client, client_certificate, home, stored_token
from modelyard.cli.output import show_json
from modelyard.cli.rollback import split_endpoint
from modelyard.client.api import path
from modelyard.client.transport import HttpTransport
from modelyard.domain.errors import Conflict, Invalid, ModelyardError, NotFound, Unavailable
from modelyard.domain.serving import Libraries

if TYPE_CHECKING:
    from modelyard.deliver.serving.batch import Counted, Work


@click.command()
@click.argument("endpoint", metavar="ENVIRONMENT/ENDPOINT|MODEL_DIR")
@click.option("--json", "text", help='Rows as JSON: \'[{"carrier": "UA", ...}]\', or a whole scoring request.')
@click.option(
    "--file", type=click.Path(exists=True, path_type=Path), help="A JSON or CSV file; '-' for standard input."
)
@click.option(
    "--input",
    "pattern",
    help="Batch: a CSV or Parquet file, a quoted pattern such as 'in/*.parquet' or 's3://bucket/in/**/*.csv', or a "
    "table: 'postgresql://host/db?table=flights'.",
)
@click.option("--output", help="Batch: the folder, or s3://bucket/prefix, for Parquet parts.")
@click.option(
    "--set-aside",
    "aside",
    metavar="PLACE",
    help="Batch: a folder, or s3://bucket/prefix, for rows that do not fit the model, as CSV with the reason; "
    "without it the first one ends the run.",
)
@click.option("--workers", type=int, help="Batch: processes at once; one for each core by default.")
@click.option("--engine", default="local", metavar="ENGINE", help="Batch: local, ray, or ray://HOST:PORT.")
@libraries.option
def predict(
    endpoint: str,
    text: str | None,
    file: Path | None,
    pattern: str | None,
    output: str | None,
    aside: str | None,
    workers: int | None,
    engine: str,
    wanted: Libraries,
) -> None:
    """Ask an endpoint for predictions: rows from --json, --file or standard input.

    With --input and --output whole files or tables are predicted by the version that serves there, or by the model
    in a folder, on this machine or on a Ray cluster; a run that was stopped goes on where it was.
    """
    if pattern is not None:
        _batch(endpoint, pattern, output, aside, workers, _elsewhere(engine, workers), wanted)
        return
    environment, name = split_endpoint(endpoint)
    found = client().call("GET", path("environments", environment, "endpoints", name))
    if found["url"] is None:
        raise Unavailable(f"The gateway of {environment} is not running.", remedy="Start it: modelyard up")
    data = text.encode() if text else (file.read_bytes() if file else sys.stdin.buffer.read())
    media = "text/csv" if file and file.suffix == ".csv" else "application/json"
    if media == "application/json":
        data = _request(data)
    transport = HttpTransport(found["url"], certificate=client_certificate())
    headers = {"authorization": f"Bearer {stored_token()}", "content-type": media}
    answer = transport.send("POST", f"/endpoints/{name}/invocations", {}, headers, data)
    value = msgspec.json.decode(answer.body)
    if answer.status != 200:
        message = value.get("message", "no message")
        remedy = "See what keeps it: modelyard endpoints" if answer.status >= 500 else "Correct the request."
        raise ModelyardError(f"{endpoint} answered {answer.status}: {message}", remedy=remedy)
    version, identity = answer.headers.get("x-modelyard-version"), answer.headers.get("x-prediction-id")
    show_json({**value, "version": version, "prediction_id": identity})


def _elsewhere(engine: str, most: int | None) -> "Callable[[list[Work]], Iterator[Counted]] | None":
    """What computes the parts on a cluster; None for this machine's processes. Raises Invalid."""
    if engine == "local":
        return None
    from modelyard.deliver.serving import batch_ray  # late: pulls in pyarrow and the model's libraries
    from modelyard.kit.ray_cluster import address_of

    try:
        address = address_of(engine)
    except ValueError:
        raise Invalid(f"There is no engine {engine!r}.", remedy="Engines: local, ray, ray://HOST:PORT.") from None
    return lambda work: batch_ray.predicted(work, address, most)


def _batch(
    endpoint: str,
    pattern: str,
    output: str | None,
    aside: str | None,
    workers: int | None,
    elsewhere: "Callable[[list[Work]], Iterator[Counted]] | None",
    wanted: Libraries,
) -> None:
    if output is None:
        raise Invalid("Batch prediction needs a folder to write to.", remedy="Add --output FOLDER.")
    from modelyard.deliver.deployments import batch_inputs  # late: pulls in pyarrow and the model's libraries
    from modelyard.deliver.serving import batch

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r{done} of {total} parts", err=True, nl=done == total)

    folder = _model_folder(endpoint)
    count = workers or os.cpu_count() or 1
    if elsewhere is not None:
        if wanted == "own":
            raise Invalid(
                "A cluster's nodes have libraries of their own.", remedy="Leave out --libraries or --engine."
            )
        libraries.warn(folder)
    else:
        elsewhere = _in_environment(folder, wanted, batch_inputs.needed(pattern, output, aside or ""), count)
    found = batch.run(
        folder,
        pattern,
        batch_inputs.writer(output),
        count,
        progress,
        inputs=batch_inputs.reader(pattern),
        elsewhere=elsewhere,
        aside=batch_inputs.writer(aside) if aside else None,
    )
    told = {"rows": found.rows, "parts": found.parts, "kept": found.kept, "output": output}
    show_json(told | ({"set_aside": found.aside} if aside else {}))


def _in_environment(
    folder: Path, wanted: Libraries, extra: tuple[str, ...], workers: int
) -> "Callable[[list[Work]], Iterator[Counted]] | None":
    """What computes the parts in the model's own environment; None where ours serves. Raises as `python_of` does."""
    python = libraries.python_of(folder, wanted, extra)
    if python is None:
        return None
    from modelyard.deliver.deployments import batch_own  # late: see above

    return lambda work: batch_own.predicted(work, python, workers)


def _model_folder(endpoint: str) -> Path:
    """A folder with a model, or that of the version that serves at an endpoint of this yard."""
    if (Path(endpoint) / "MLmodel").exists():
        return Path(endpoint)
    from modelyard.deliver.deployments import places  # late: see above

    environment, name = split_endpoint(endpoint)
    live = client().call("GET", path("environments", environment, "endpoints", name))["deployments"].get("live")
    if live is None:
        raise Conflict(f"Nothing serves at {endpoint}.", remedy="Deploy a version first, or name a model's folder.")
    folder = places.models(home(), environment) / live["digest"]
    if not folder.exists():
        raise NotFound(
            f"The files of {endpoint} are not on this machine.", remedy="Download the version and name its folder."
        )
    return folder


def _request(data: bytes) -> bytes:
    """Bare rows become a scoring request; anything else is sent as it is. Raises Invalid."""
    try:
        value = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise Invalid(f"The rows are not JSON: {error}.", remedy='Write such as [{"carrier": "UA"}].') from error
    if isinstance(value, list):
        return msgspec.json.encode({"dataframe_records": value})
    if isinstance(value, dict) and not {"dataframe_split", "dataframe_records", "instances", "inputs"} & set(value):
        return msgspec.json.encode({"dataframe_records": [value]})
    return data
