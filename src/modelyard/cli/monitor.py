"""`modelyard monitor`: compare live data with the reference."""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from modelyard.cli.context import client, home
from modelyard.cli.output import age, json_option, show_json, table
from modelyard.client.api import path
from modelyard.domain.errors import Conflict, NotFound
from modelyard.domain.project import Monitor


@click.group()
def monitor() -> None:
    """Compare an endpoint's live data with its version's reference."""


@monitor.command("run")
@click.argument("model")
@click.option("--environment", default="production", show_default=True)
@json_option
def run(model: str, environment: str, as_json: bool) -> None:
    """Judge every complete window of predictions and labels that was not judged yet."""
    results = evaluate(model, environment)
    if results:
        body = {"results": results}
        client().call("POST", path("environments", environment, "endpoints", model, "monitor-results"), body=body)
    if as_json:
        show_json(results)
        return
    columns = ["kind", "version", "rows", "verdict", "title"]
    table(results, columns, False, "No complete window is new; nothing to judge.")


@monitor.command("results")
@click.argument("model")
@click.option("--environment", default="production", show_default=True)
@json_option
def results(model: str, environment: str, as_json: bool) -> None:
    """List what monitors found, newest window first."""
    where = path("environments", environment, "endpoints", model, "monitor-results")
    found = client().call("GET", where)["results"]
    columns = [
        "kind",
        "version",
        "rows",
        "verdict",
        ("title", lambda r: r["result"]["title"]),
        ("window", lambda r: age(r["window_end"]) + " ago"),
    ]
    table(found, columns, as_json, "No window was judged yet.")


def evaluate(model: str, environment: str) -> list[dict[str, Any]]:
    """What the monitors say of the new windows of the version that serves now."""
    from modelyard.deliver.deployments import places  # late: numpy and pyarrow come with these
    from modelyard.deliver.monitoring import monitor as monitors
    from modelyard.deliver.serving import ground_truth, log_reader

    declared = _declared(model)
    where = path("environments", environment, "endpoints", model)
    live = client().call("GET", where)["deployments"].get("live")
    if live is None:
        raise Conflict(f"Nothing serves at {environment}/{model}.", remedy="Deploy a version first.")
    version = live["version"]
    details = client().call("GET", path("models", model, "versions", version))
    baseline = next((item["content"] for item in details["evidence"] if item["kind"] == "evaluation"), None)
    if baseline is None or not baseline.get("reference"):
        raise NotFound(
            f"{model} v{version} has no reference window.", remedy="Register it with evaluation= and reference=."
        )
    reference = _reference(baseline["reference"])
    signature = log_reader.signature_of(places.models(home(), environment) / live["digest"] / "MLmodel")
    folder = places.predictions(home(), environment, model)
    folder.mkdir(parents=True, exist_ok=True)
    logged = ground_truth.join(log_reader.read(folder, signature), ground_truth.read(folder))
    judged = client().call("GET", where + "/monitor-results")["results"]
    after = {
        kind: max((item["window_end"] for item in judged if item["kind"] == kind), default=0)
        for kind in (monitors.DRIFT, monitors.QUALITY)
    }
    found = monitors.judge_drift(logged, reference, declared, version, after[monitors.DRIFT])
    found += monitors.judge_quality(logged, baseline, declared, version, after[monitors.QUALITY])
    return [result.as_wire() for result in found]


def _declared(model: str) -> Monitor:
    found = client().call("GET", "/api/v1/project")["models"].get(model)
    if found is None or found["monitor"] is None:
        raise NotFound(f"{model} declares no monitor.", remedy=f"Add [models.{model}.monitor] to modelyard.toml.")
    return msgspec.convert(found["monitor"], Monitor)


def _reference(artifact: str) -> dict[str, Any]:
    """The reference window's columns; downloaded once, kept in the yard's cache."""
    import pyarrow.parquet as pq  # late: see evaluate

    from modelyard.deliver.monitoring.monitor import as_array

    kept: Path = home() / "cache" / "references" / f"{hashlib.sha256(artifact.encode()).hexdigest()}.parquet"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        temporary = kept.with_suffix(".part")
        temporary.write_bytes(client().download(f"/api/v1/artifacts/{quote(artifact)}"))
        temporary.rename(kept)
    read = pq.read_table(kept)
    return {name: as_array(read.column(name)) for name in read.column_names if name != "label"}
