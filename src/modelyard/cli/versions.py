"""`modelyard versions`: registered models, and a model's versions."""

from typing import Any

import click

from modelyard.cli.context import client
from modelyard.cli.output import age, json_option, table
from modelyard.client.api import path


@click.command()
@click.argument("model", required=False)
@json_option
def versions(model: str | None, as_json: bool) -> None:
    """List registered models, or the versions of MODEL."""
    if model is None:
        found = client().call("GET", path("models"))["models"]
        empty = "No model is registered yet. Run a pipeline: modelyard run"
        table(found, ["name", "versions", ("aliases", lambda m: _aliases(m["aliases"]))], as_json, empty)
        return
    found = client().call("GET", path("models", model, "versions"))["versions"]
    columns = [
        "version",
        "aliases",
        ("gates", lambda v: {True: "passed", False: "failed", None: "-"}[v["gates"]]),
        ("states", lambda v: ", ".join(f"{where}: {state}" for where, state in v["states"].items())),
        ("metrics", lambda v: _metrics(v["metrics"])),
        "registrar",
        ("registered", lambda v: age(v["created_at"]) + " ago"),
    ]
    table(found, columns, as_json, f"{model} has no version yet.")


def _aliases(held: dict[str, int]) -> str:
    return ", ".join(f"{alias} -> {number}" for alias, number in held.items())


def _metrics(metrics: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in list(metrics.items())[:3])
