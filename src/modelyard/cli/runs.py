"""`modelyard runs`: tracked runs."""

import click

from modelyard.cli.context import client
from modelyard.cli.output import age, json_option, table
from modelyard.client.api import path


@click.command()
@click.option("--experiment", help="Only runs of this experiment.")
@click.option(
    "--filter", "text", default="", help="MLflow's filter language: metrics.auc > 0.7 AND params.depth = '4'"
)
@click.option("--order", help="Such as 'metrics.auc DESC'; newest first by default.")
@click.option("-n", "--limit", default=30, show_default=True)
@json_option
def runs(experiment: str | None, text: str, order: str | None, limit: int, as_json: bool) -> None:
    """List tracked runs with their params and metrics."""
    query = {"experiment": experiment, "filter": text, "order": order, "limit": limit}
    found = client().call("GET", path("runs"), query=query)["runs"]
    columns = [
        ("run", lambda r: r["id"][:8]),
        "name",
        "experiment",
        "status",
        ("metrics", lambda r: ", ".join(f"{k} {v:.4g}" for k, v in list(r["metrics"].items())[:4])),
        ("params", lambda r: ", ".join(f"{k}={v}" for k, v in list(r["params"].items())[:4])),
        "author",
        ("started", lambda r: age(r["started_at"]) + " ago"),
    ]
    table(found, columns, as_json, "No runs yet. Run a pipeline: modelyard run pipeline.py:train_delay")
