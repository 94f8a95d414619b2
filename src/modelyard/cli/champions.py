"""The champions of a project's models, fetched from the yard, and the drift of data since."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from modelyard.build.ci.context import Champion
from modelyard.build.ci.contracts import OUTPUTS
from modelyard.cli.context import client, home, running_server
from modelyard.client.api import Client, path
from modelyard.client.hub import ClientHub
from modelyard.domain.errors import ModelyardError, NotFound
from modelyard.domain.project import Project


def fetch(project: Project, folder: Path) -> dict[str, Champion] | None:
    """By model its champion, for the models that have one; None when there is no yard to ask."""
    if not (os.environ.get("MODELYARD_URL") or running_server() or (home() / "yard.db").exists()):
        return None
    try:
        yard = client()
        return {model: held for model in project.models if (held := _champion(yard, model, folder / model))}
    except ModelyardError as error:
        click.echo(f"  Champions are left out: {error}", err=True)
        return None


def _champion(yard: Client, model: str, folder: Path) -> Champion | None:
    try:
        found = yard.call("GET", path("models", model, "versions", "champion"))
    except NotFound:
        return None
    files = folder / "files"
    ClientHub(yard).download_version(model, found["version"], found["files"], files)
    held = (item["content"] for item in found["evidence"] if item["kind"] == "evaluation")
    evaluation: dict[str, Any] = next(held, {})
    (folder / "champion.json").write_text(json.dumps({"version": found["version"]}))
    reference = None
    if evaluation.get("reference"):
        reference = folder / "reference.parquet"
        reference.write_bytes(yard.download("/api/v1/artifacts/" + quote(evaluation["reference"])))
    return Champion(found["version"], evaluation, files, reference)


def drift_between(reference: Path, current: Path) -> list[dict[str, Any]]:
    """The drift of each input column between two Parquet files: {name, effect, threshold, drifted}."""
    import pyarrow.parquet as pq  # late: only a comparison with a champion reads data

    from modelyard.deliver.monitoring.drift import compare_table
    from modelyard.deliver.monitoring.monitor import arrays

    before, after = pq.read_table(reference), pq.read_table(current)
    names = [name for name in before.column_names if name not in OUTPUTS]
    found = compare_table(arrays(before, names), arrays(after, names), max(1, after.num_rows))
    return [
        {"name": item.name, "effect": item.effect, "threshold": item.threshold, "drifted": bool(item.drifted)}
        for item in found
    ]
