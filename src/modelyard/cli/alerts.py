"""`modelyard alerts`: what wants an answer."""

import click

from modelyard.cli.context import client
from modelyard.cli.output import age, json_option, show_json, table


@click.group(invoke_without_command=True)
@click.option("--all", "everything", is_flag=True, help="Resolved ones too.")
@json_option
@click.pass_context
def alerts(context: click.Context, everything: bool, as_json: bool) -> None:
    """List open alerts; acknowledge, mute or resolve one."""
    if context.invoked_subcommand:
        return
    found = client().call("GET", "/api/v1/alerts", query={"all": "true" if everything else None})["alerts"]
    columns = [
        ("id", lambda a: a["id"][:8]),
        "severity",
        "state",
        "kind",
        ("where", lambda a: f"{a['environment']}/{a['endpoint']} v{a['version']}"),
        "title",
        ("seen", lambda a: f"{a['times_seen']}x"),
        ("opened", lambda a: age(a["opened_at"]) + " ago"),
    ]
    table(found, columns, as_json, "No alert is open.")


@alerts.command()
@click.argument("alert")
@json_option
def show(alert: str, as_json: bool) -> None:
    """Explain an alert: what changed, since when, how sure, what it costs, what was done, what to do."""
    found = client().call("GET", f"/api/v1/alerts/{alert}")
    if as_json:
        show_json(found)
        return
    told = found["explanation"]
    click.echo(
        f"{found['severity']}, {found['state']}: {found['environment']}/{found['endpoint']} v{found['version']}"
    )
    for line in told["what"]:
        click.echo(f"  {line}")
    click.echo(f"since {told['since']}; {told['sure']}" + (f"; {told['cost']}" if told["cost"] else ""))
    if told["columns"]:
        click.echo("columns that moved:")
        table(told["columns"], ["name", "effect", "threshold", "psi", "importance", "moved"], False)
    if told["slices"]:
        click.echo("where the model does worst:")
        table(told["slices"], ["by", "value", "rows", "loss", "excess"], False)
    for done in told["done"]:
        click.echo(f"done {done['at']}: {done['said']}")
    click.echo("you may:")
    for option in told["options"]:
        click.echo(f"  {option}")


def _answer(action: str, alert: str, message: str) -> None:
    found = client().call("POST", f"/api/v1/alerts/{alert}/{action}", body={"note": message})
    click.echo(f"{found['id'][:8]} is {found['state']}.")


@alerts.command()
@click.argument("alert")
@click.option("-m", "--message", default="", help="A note.")
def acknowledge(alert: str, message: str) -> None:
    """Take an alert: others see that you are on it."""
    _answer("acknowledge", alert, message)


@alerts.command()
@click.argument("alert")
@click.option("-m", "--message", required=True, help="Why it may be silent.")
def mute(alert: str, message: str) -> None:
    """Silence an alert, with a reason."""
    _answer("mute", alert, message)


@alerts.command()
@click.argument("alert")
@click.option("-m", "--message", default="", help="What was done.")
def resolve(alert: str, message: str) -> None:
    """Close an alert."""
    _answer("resolve", alert, message)
