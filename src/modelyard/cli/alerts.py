"""`modelyard alerts`: what wants an answer."""

import click

from modelyard.cli.context import client
from modelyard.cli.output import age, json_option, table


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
