"""`modelyard predict`: ask an endpoint."""

import sys
from pathlib import Path

import click
import msgspec

from modelyard.cli.context import client, stored_token
from modelyard.cli.output import show_json
from modelyard.cli.rollback import split_endpoint
from modelyard.client.api import path
from modelyard.client.transport import HttpTransport
from modelyard.domain.errors import Invalid, ModelyardError, Unavailable


@click.command()
@click.argument("endpoint", metavar="ENVIRONMENT/ENDPOINT")
@click.option("--json", "text", help='Rows as JSON: \'[{"carrier": "UA", ...}]\', or a whole scoring request.')
@click.option(
    "--file", type=click.Path(exists=True, path_type=Path), help="A JSON or CSV file; '-' for standard input."
)
def predict(endpoint: str, text: str | None, file: Path | None) -> None:
    """Ask an endpoint for predictions; rows from --json, --file or standard input."""
    environment, name = split_endpoint(endpoint)
    found = client().call("GET", path("environments", environment, "endpoints", name))
    if found["url"] is None:
        raise Unavailable(f"The gateway of {environment} is not running.", remedy="Start it: modelyard up")
    data = text.encode() if text else (file.read_bytes() if file else sys.stdin.buffer.read())
    media = "text/csv" if file and file.suffix == ".csv" else "application/json"
    if media == "application/json":
        data = _request(data)
    transport = HttpTransport(found["url"])
    headers = {"authorization": f"Bearer {stored_token()}", "content-type": media}
    answer = transport.send("POST", f"/endpoints/{name}/invocations", {}, headers, data)
    value = msgspec.json.decode(answer.body)
    if answer.status != 200:
        message = value.get("message", "no message")
        raise ModelyardError(f"{endpoint} answered {answer.status}: {message}", remedy="Correct the request.")
    version, identity = answer.headers.get("x-modelyard-version"), answer.headers.get("x-prediction-id")
    show_json({**value, "version": version, "prediction_id": identity})


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
