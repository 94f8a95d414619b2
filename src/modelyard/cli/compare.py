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
    """Compare versions of MODEL, each with the first: modelyard compare flight-delay champion 4.

    A version is named by its number, an alias, or `latest`. Says which is better, by how much, and whether that is
    more than noise; then metrics, groups, parameters, data, code, size and latency.
    """
    query = {"versions": ",".join(references)}
    found = client().call("GET", path("models", model, "compare"), query=query)
    if as_json:
        show_json(found)
        return
    for verdict in found["verdicts"]:
        click.echo(verdict["sentence"])
    if not found["same_data"]:
        click.echo("They were evaluated on different data: differences mix the model's and the data's.")
    names = [f"v{number}" for number in found["versions"]]
    click.echo()
    _metrics(found, names)
    _groups(found, names)
    _differences(found, names)


def _metrics(found: dict[str, Any], names: list[str]) -> None:
    rows: list[dict[str, Any]] = []
    for row in found["metrics"]:
        shown = {"metric": row["metric"], **dict(zip(names, row["values"], strict=True))}
        for name, difference in zip(names[1:], row["differences"], strict=True):
            shown[f"{name} - {names[0]}"] = _words(difference, names[0], name)
        rows.append(shown)
    table(rows, list(rows[0]) if rows else ["metric"], False, "No version has an evaluation.")


def _groups(found: dict[str, Any], names: list[str]) -> None:
    if not found["slices"]:
        return
    click.echo(f"\n{found['primary_metric']} by group")
    rows = [
        {
            "group": f"{item['by']} = {item['value']}",
            "rows": item["rows"][0],
            **dict(zip(names, item["values"], strict=True)),
        }
        for item in found["slices"]
    ]
    table(rows, list(rows[0]), False)


def _differences(found: dict[str, Any], names: list[str]) -> None:
    """What else differs: parameters, data, code, size."""
    rows = [{"what": item["param"], **_row(names, item["values"])} for item in found["params"] if item["differs"]]
    rows.append({"what": "data", **_row(names, [_short(item) for item in found["datasets"]])})
    rows.append({"what": "code", **_row(names, [_code(item) for item in found["code"]])})
    rows.append({"what": "size in bytes", **_row(names, found["size_bytes"])})
    click.echo("\nmade from")
    table(rows, ["what", *names], False)


def _row(names: list[str], values: list[Any]) -> dict[str, Any]:
    return dict(zip(names, values, strict=True))


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "-"


def _code(code: dict[str, Any]) -> str:
    commit = str(code.get("commit") or "")
    return (commit[:12] + (" with changes" if commit.endswith("-dirty") else "")) or "-"


def _words(difference: dict[str, Any] | None, first: str, second: str) -> str:
    if difference is None:
        return "-"
    better = {"first": f"{first} better", "second": f"{second} better", "neither": "equal"}[str(difference["better"])]
    beyond = difference["beyond_noise"]
    noise = "noise unknown" if beyond is None else ("beyond noise" if beyond else "within noise")
    return f"{difference['value']:+.4f} ({better}, {noise})"
