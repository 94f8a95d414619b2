"""`modelyard compare`: versions side by side."""

from typing import Any

import click

from modelyard.cli.context import client
from modelyard.cli.output import json_option, show_json, table
from modelyard.client.api import path


@click.command()
@click.argument("model")
@click.argument("references", nargs=-1, required=True)
@json_option
def compare(model: str, references: tuple[str, ...], as_json: bool) -> None:
    """Compare versions of MODEL, each with the first: modelyard compare flight-delay champion 4."""
    query = {"versions": ",".join(references)}
    found = client().call("GET", path("models", model, "compare"), query=query)
    if as_json:
        show_json(found)
        return
    names = [f"v{number}" for number in found["versions"]]
    rows = []
    for row in found["metrics"]:
        shown = {"metric": row["metric"], **dict(zip(names, row["values"], strict=True))}
        for name, difference in zip(names[1:], row["differences"], strict=True):
            shown[f"{name} - {names[0]}"] = _words(difference, names[0], name)
        rows.append(shown)
    table(rows, list(rows[0]) if rows else ["metric"], False, "No version has an evaluation.")
    if not found["same_data"]:
        click.echo("These were evaluated on different data: differences mix the model's and the data's.", err=True)


def _words(difference: dict[str, Any] | None, first: str, second: str) -> str:
    if difference is None:
        return "-"
    better = {"first": f"{first} better", "second": f"{second} better", "neither": "equal"}[str(difference["better"])]
    beyond = difference["beyond_noise"]
    noise = "noise unknown" if beyond is None else ("beyond noise" if beyond else "within noise")
    return f"{difference['value']:+.4f} ({better}, {noise})"
