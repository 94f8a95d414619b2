"""`modelyard predictions`: what was asked and answered, and what became true."""

import csv
from pathlib import Path
from typing import Any

import click
import msgspec

from modelyard.cli.context import client
from modelyard.cli.output import age, json_option, table
from modelyard.cli.rollback import split_endpoint
from modelyard.client.api import path
from modelyard.domain.errors import Invalid, ModelyardError
from modelyard.domain.sections import seconds
from modelyard.kit.clock import now_ms

SHOWN = 20
FORMATS = (".jsonl", ".csv", ".parquet")
INPUT = "input."


@click.command()
@click.argument("endpoint", metavar="ENVIRONMENT/ENDPOINT")
@click.option("--since", help="A duration: 1h is the last hour. All of the log by default.")
@click.option(
    "--id", "identity", default="", help="Of a prediction or a request, or the caller's own; with :ROW or not."
)
@click.option(
    "--limit", type=click.IntRange(1), help=f"The newest so many rows; {SHOWN} by default, all with --output."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write them to a .jsonl, .csv or .parquet file."
)
@json_option
def predictions(
    endpoint: str, since: str | None, identity: str, limit: int | None, output: Path | None, as_json: bool
) -> None:
    """Show logged predictions, newest first: inputs, answer, version, latency, and the label where it is known."""
    environment, name = split_endpoint(endpoint)
    if output is not None and output.suffix not in FORMATS:
        raise Invalid(f"{output} is of no known format.", remedy=f"Name a file that ends in {', '.join(FORMATS)}.")
    most = limit or (SHOWN if output is None else 0)
    start = str(now_ms() - int(seconds(since) * 1000)) if since else "0"
    where = path("environments", environment, "endpoints", name) + "/predictions"
    found = client().download(where, {"since": start, "id": identity, "limit": str(most)})
    if output is not None:
        rows = _written(found, output)
        click.echo(f"{rows} predictions in {output}")
        return
    shown = [msgspec.json.decode(line) for line in reversed(found.splitlines())]
    columns = [
        ("time", lambda row: f"{age(row['time_ms'])} ago"),
        ("id", lambda row: row["prediction_id"]),
        ("caller's id", lambda row: row["caller_id"] or None),
        "version",
        ("ms", lambda row: row["latency_ms"]),
        ("inputs", _inputs),
        "prediction",
        "label",
    ]
    table(shown, columns, as_json, "" if shown or as_json else _why_none(environment, name, identity, since))


def _why_none(environment: str, name: str, identity: str, since: str | None) -> str:
    """What can be known of why the log has no such prediction."""
    when = f" in the last {since}" if since else ""
    said = [f"No logged prediction has the id {identity}{when}." if identity else f"Nothing was logged{when}."]
    try:
        log = client().call("GET", path("environments", environment, "endpoints", name))["log"]
    except ModelyardError:  # it takes another permission
        return said[0]
    if log["sample"] == 0:
        said.append("The log takes none (sample = 0).")
    elif log["sample"] < 1:
        said.append(f"The log takes {log['sample']:.0%} of the requests (sample).")
    if log["keep"]:
        said.append(f"What is older than {log['keep']} is removed (keep).")
    if identity:
        said.append(
            "Refused and failed requests are not kept. An id is X-Prediction-Id, or the caller's X-Request-Id."
        )
    return " ".join(said)


def _inputs(row: dict[str, Any]) -> str:
    """The first of a row's inputs."""
    text = " ".join(f"{name.removeprefix(INPUT)}={row[name]}" for name in row if name.startswith(INPUT))
    return f"{text[:57]}..." if len(text) > 60 else text


def _written(lines: bytes, output: Path) -> int:
    """How many rows were written."""
    if output.suffix == ".jsonl":
        output.write_bytes(lines)
        return lines.count(b"\n")
    rows = [msgspec.json.decode(line, type=dict[str, Any]) for line in lines.splitlines()]
    names = list(dict.fromkeys(name for row in rows for name in row))
    if output.suffix == ".csv":
        with output.open("w", newline="", encoding="utf-8") as stream:
            written = csv.DictWriter(stream, names)
            written.writeheader()
            written.writerows(rows)
    else:
        import pyarrow as pa  # late: only this format needs it
        import pyarrow.parquet as pq

        pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), output)
    return len(rows)
