"""`modelyard monitor`: compare live data with the reference, report, try the policy, test a channel."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from modelyard.cli.context import client
from modelyard.cli.output import age, json_option, show_json, table
from modelyard.client.paths import path
from modelyard.kit.clock import now_ms

environment_option = click.option("--environment", default="production", show_default=True)


@click.group()
def monitor() -> None:
    """Compare an endpoint's live data with its version's reference."""


@monitor.command("run")
@click.argument("model")
@environment_option
@click.option(
    "--batch",
    type=click.Path(path_type=Path, exists=True),
    help="Judge a batch prediction's output.",
)
@json_option
def run(model: str, environment: str, batch: Path | None, as_json: bool) -> None:
    """Judge every complete window of predictions and labels that was not judged yet."""
    from modelyard.cli import watching  # late: numpy and pyarrow come with it
    from modelyard.deliver.monitoring import first_window

    if batch is not None:
        _report(model, environment, watching.evaluate_batch(model, environment, batch), False, as_json)
        return
    try:
        found = watching.evaluate(model, environment)
    except first_window.NotYet as waiting:
        click.echo(f"Nothing to judge yet: {model} {waiting.message}", err=as_json)
        if as_json:
            show_json([])
        return
    _report(model, environment, found, False, as_json)


@monitor.command("backfill")
@click.argument("model")
@environment_option
@click.option("--from", "since", type=click.DateTime(), required=True, help="UTC, such as 2026-01-31.")
@click.option("--to", "until", type=click.DateTime(), help="UTC; now without it.")
@json_option
def backfill(model: str, environment: str, since: datetime, until: datetime | None, as_json: bool) -> None:
    """Judge every window of the serving version's log in a span of time; no alert or retrain follows from them."""
    from modelyard.cli import watching  # late: see run

    end = int(until.replace(tzinfo=UTC).timestamp() * 1000) if until else now_ms()
    start = int(since.replace(tzinfo=UTC).timestamp() * 1000)
    if start >= end:
        raise click.UsageError("--from is not before --to.")
    _report(model, environment, watching.backfill(model, environment, start, end), True, as_json)


def _report(model: str, environment: str, results: list[dict[str, Any]], past: bool, as_json: bool) -> None:
    """Record results on the server and show them."""
    if results:
        body = {"results": results, "past": past}
        client().call("POST", path("environments", environment, "endpoints", model, "monitor-results"), body=body)
    if as_json:
        show_json(results)
        return
    columns = ["kind", "version", "rows", "verdict", "title"]
    table(results, columns, False, "No complete window is new; nothing to judge.")


@monitor.command("rebase")
@click.argument("model")
@environment_option
@click.option("-m", "--message", required=True, help="Why.")
def rebase(model: str, environment: str, message: str) -> None:
    """Compare MODEL's serving version with the next whole window that it answers, not with its first one.

    For a version that was registered without a reference window, as MLflow's own clients do, and whose first window
    was no ordinary traffic.
    """
    where = path("environments", environment, "endpoints", model, "baseline")
    version = client().call("POST", where, body={"reason": message})["version"]
    click.echo(f"The next whole window that {model} v{version} answers is what later ones are compared with.")


@monitor.command("results")
@click.argument("model")
@environment_option
@click.option("--kind", help="drift, stream, explanation, data_quality, estimate, model_quality, bias or service.")
@json_option
def results(model: str, environment: str, kind: str | None, as_json: bool) -> None:
    """List what monitors found, newest window first."""
    where = path("environments", environment, "endpoints", model, "monitor-results")
    found = client().call("GET", where, query={"kind": kind})["results"]
    columns = [
        "kind",
        "version",
        "rows",
        "verdict",
        ("title", lambda r: r["result"]["title"]),
        ("window", lambda r: age(r["window_end"]) + " ago"),
    ]
    table(found, columns, as_json, "No window was judged yet.")


@monitor.command("report")
@click.argument("model", required=False)
@environment_option
@click.option("--reference", type=click.Path(path_type=Path, exists=True), help="A Parquet file or folder.")
@click.option("--current", type=click.Path(path_type=Path, exists=True), help="A Parquet file or folder.")
@click.option("--save", type=click.Path(path_type=Path), help="report.html, .json or .xml (JUnit).")
@click.option("--columns-share", type=float, default=0.3, show_default=True, help="Fail from this drifted share on.")
@click.option("--constraints", type=click.Path(path_type=Path, exists=True), help="A TOML file of promises.")
@click.option("--joint", is_flag=True, help="Also train a classifier to tell the two apart.")
@click.option("--gate", is_flag=True, help="Exit with 2 when the comparison fails.")
@json_option
def report(
    model: str | None,
    environment: str,
    reference: Path | None,
    current: Path | None,
    save: Path | None,
    columns_share: float,
    constraints: Path | None,
    joint: bool,
    gate: bool,
    as_json: bool,
) -> None:
    """Report on MODEL's newest window of live data, or on two tables (--reference and --current)."""
    if (model is None) == (reference is None or current is None):
        raise click.UsageError("Name a model, or both --reference and --current.")
    from modelyard.deliver.monitoring import comparison, data_quality  # late: numpy comes with it

    promised = data_quality.read(constraints) if constraints else None
    if model is not None:
        from modelyard.cli import watching  # late: see run

        found = watching.newest_window(model, environment, columns_share, promised)
    else:
        found = comparison.compare_data(
            reference, current, columns_share=columns_share, constraints=promised, joint=joint
        )
    if save is not None:
        found.save(save)
    if as_json:
        show_json(found.as_json())
    else:
        click.echo(f"{'passed' if found.passed else 'failed'}: {found.verdict}" + (f"  ({save})" if save else ""))
        shown = [column.__dict__ for column in found.columns if column.drifted][:20]
        if shown:
            table(shown, ["name", "kind", "test", "effect", "threshold", "psi", "p_value", "moved"], False)
        for finding in found.findings:
            click.echo(f"{finding.check}: {finding.message}")
        if not found.calibrated:
            click.echo("uncalibrated: the reference has fewer than 30 windows of this length")
    if gate and not found.passed:
        sys.exit(2)


@monitor.command("constraints")
@click.argument("model", required=False)
@environment_option
@click.option("--reference", type=click.Path(path_type=Path, exists=True), help="A Parquet file or folder instead.")
def constraints(model: str | None, environment: str, reference: Path | None) -> None:
    """Suggest data constraints from a reference, as TOML to edit and to name in `monitor.constraints`."""
    from modelyard.deliver.monitoring import data_quality  # late: numpy comes with it
    from modelyard.domain import contracts

    if (model is None) == (reference is None):
        raise click.UsageError("Name a model or a --reference.")
    if reference is not None:
        from modelyard.deliver.monitoring.reference import prepare  # late: see above
        from modelyard.deliver.monitoring.tables import open_table

        suggested = data_quality.suggest(prepare(open_table(reference)))
    else:
        from modelyard.cli import watching  # late: see run

        suggested = watching.watch(model or "", environment).watch.suggested()
    click.echo(contracts.write(suggested), nl=False)


@monitor.command("replay")
@click.argument("model")
@environment_option
@json_option
def replay(model: str, environment: str, as_json: bool) -> None:
    """Show what the policy in modelyard.toml would have done over the results so far; changes nothing."""
    from modelyard.cli import watching  # late: see run
    from modelyard.deliver.monitoring import replay as replays

    where = path("environments", environment, "endpoints", model, "monitor-results")
    found = client().call("GET", where, query={"limit": 5000})["results"]
    steps = replays.replay(watching.declared(model), found)
    columns = [("window end", lambda s: age(s["at"]) + " ago"), "kind", "version", "did", "title"]
    table(steps, columns, as_json, "No alarm in the results so far; nothing would have fired.")


@monitor.command("retrain")
@click.argument("model")
@click.option("-m", "--message", required=True, help="Why.")
def retrain(model: str, message: str) -> None:
    """Start MODEL's pipeline now, with a reason; gates and approvals hold as always."""
    client().call("POST", path("models", model, "retrain"), body={"reason": message})
    click.echo(f"{model} is being retrained. Watch: modelyard versions {model}")


@monitor.command("test-channel")
@click.argument("channel")
def test_channel(channel: str) -> None:
    """Send a test message to a channel of [notify], and say whether it arrived."""
    client().call("POST", path("channels", channel, "test"))
    click.echo(f"{channel} took the test message.")


@monitor.command("dashboard")
def dashboard() -> None:
    """Print a Grafana dashboard (JSON) over the gateways' Prometheus metrics."""
    from modelyard.deliver.monitoring import grafana  # late: --help needs none of it

    click.echo(grafana.dashboard())


@monitor.command("resend")
@json_option
def resend(as_json: bool) -> None:
    """Send again the notifications that could not be delivered, once their channel is mended."""
    sent = client().call("POST", "/api/v1/notifications/resend")["sent"]
    table(sent, ["channel", "about"], as_json, "Every notification was delivered; nothing to send again.")
