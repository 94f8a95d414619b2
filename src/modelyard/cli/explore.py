"""`modelyard explore` and `modelyard lab`: a first look at data."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from modelyard.cli.context import client, project_dir
from modelyard.cli.output import json_option, show_json, table
from modelyard.client.api import path
from modelyard.domain.errors import ConfigError, MissingExtra, ModelyardError


@click.command()
@click.argument("source", metavar="FILE|URL#TABLE")
@click.option("--target", help="The column to predict; without it only the data is described.")
@click.option("--rows", default=100_000, show_default=True, help="The most rows that are held in memory.")
@click.option("--budget", default=60.0, show_default=True, help="Seconds after which no further candidate starts.")
@click.option("--out", type=click.Path(path_type=Path), help="The HTML file; NAME.html here by default.")
@click.option("--track/--no-track", default=True, help="Keep each candidate as a run of the yard.")
@json_option
def explore(
    source: str, target: str | None, rows: int, budget: float, out: Path | None, track: bool, as_json: bool
) -> None:
    """Describe a table, and try a few models on it.

    modelyard explore flights.csv --target late
    """
    if rows < 100:
        raise ConfigError(f"--rows {rows} is too few to say anything.", remedy="Give 100 or more.")
    _needs()
    from modelyard.build.explore import page  # late: --help needs none of it
    from modelyard.build.explore.exploration import explore as look
    from modelyard.kit.files import atomic_write

    def show(name: str) -> None:
        if not as_json:
            click.echo(f"  … {name}", err=True)

    found = look(source, target, rows, budget, show)
    board = found["leaderboard"]
    if board and track:
        found["runs"] = _track(found)
    place = out or Path(f"{found['source']}.html")
    atomic_write(place, page.render(found).encode(), durable=False)
    if as_json:
        show_json(found)
        return
    _tell(found)
    click.echo(f"wrote {place}")


@click.command()
def lab() -> None:
    """Open a notebook in the project's folder, with the yard's address and token set."""
    if importlib.util.find_spec("jupyterlab") is None:
        raise MissingExtra("jupyterlab", "lab", "A notebook")
    from modelyard.cli.context import running_server, stored_token  # late: only now

    environment = dict(os.environ)
    url = running_server()
    if url:
        token = stored_token()
        environment |= {"MODELYARD_URL": url, "MODELYARD_TOKEN": token}
        environment |= {"MLFLOW_TRACKING_URI": url, "MLFLOW_TRACKING_TOKEN": token}
    command = [sys.executable, "-m", "jupyterlab", f"--notebook-dir={project_dir()}"]
    sys.exit(subprocess.call(command, env=environment))


def _needs() -> None:
    for package in ("pandas", "pyarrow", "sklearn"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "build", "Exploring data")


def _track(found: dict[str, Any]) -> list[str]:
    """The ids of the candidates' runs; nothing outside a project, or when the yard does not answer."""
    try:
        project_dir()
    except ConfigError:
        return []
    board, ids = found["leaderboard"], list[str]()
    try:
        yard = client()
        for item in board["candidates"]:
            params = {
                "candidate": item["name"],
                "target": found["profile"]["target"]["name"],
                "source": found["source"],
            }
            metric = board["metric"]
            metrics = {metric: item["score"], f"{metric}_standard_error": item["standard_error"]}
            metrics["seconds"] = item["seconds"]
            body = {
                "experiment": f"explore/{found['source']}",
                "name": item["name"],
                "params": params,
                "metrics": metrics,
            }
            made = yard.call("POST", path("runs"), body=body)
            yard.call("POST", path("runs", made["id"], "end"), body={"status": "FINISHED"})
            ids.append(made["id"])
    except ModelyardError as error:
        click.echo(f"  The candidates were not tracked: {error}", err=True)
    return ids


def _tell(found: dict[str, Any]) -> None:
    profile, board = found["profile"], found["leaderboard"]
    scope = "" if found["whole"] else f" (a sample of {profile['rows']:,})"
    click.echo(f"{found['source']}: {found['total_rows']:,} rows{scope}, {len(profile['columns'])} columns")
    for item in profile["hints"]:
        click.echo(f"  ! {item['column']} {item['hint']}. {item['remedy']}")
    if not board:
        return
    metric = board["metric"]
    columns = [
        ("candidate", lambda item: item["name"]),
        (metric, lambda item: f"{item['score']:.4f} ± {1.96 * item['standard_error']:.4f}"),
        ("", lambda item: "tied with the best" if item["tied"] else ""),
        ("time", lambda item: f"{item['seconds']:.1f} s"),
    ]
    table(board["candidates"], columns, False)
    if board["left_out"]:
        click.echo(f"Out of time: {', '.join(board['left_out'])}. Give more: --budget 300")
    if found.get("runs"):
        click.echo(f"tracked: modelyard runs --experiment explore/{found['source']}")
