"""`modelyard token`: issue, list and revoke tokens."""

import click

from modelyard.cli.context import client
from modelyard.cli.output import age, json_option, show_json, table
from modelyard.kit.clock import iso


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def token(context: click.Context, as_json: bool) -> None:
    """List tokens (never their secrets); issue and revoke them."""
    if context.invoked_subcommand:
        return
    found = client().call("GET", "/api/v1/tokens")["tokens"]
    columns = ["id", "principal", "kind", "label", ("created", lambda t: age(t["created_at"]) + " ago")]
    columns.append(("expires", lambda t: iso(t["expires_at"]) if t["expires_at"] else "never"))
    table(found, columns, as_json, empty="No tokens.")


@token.command()
@click.option("--for", "principal", help="Whom it stands for; yourself by default.")
@click.option("--label", default="", help="What it is used for.")
@click.option("--expires", metavar="DURATION", help="How long it holds, such as 30d; until revoked by default.")
@json_option
def create(principal: str | None, label: str, expires: str | None, as_json: bool) -> None:
    """Issue a token; it is shown this once."""
    body = {"principal": principal, "label": label, "expires": expires}
    made = client().call("POST", "/api/v1/tokens", body=body)
    if as_json:
        show_json(made)
    else:
        click.echo(made["token"])
        click.echo(f"This token stands for {made['principal']} and is not shown again.", err=True)


@token.command()
@click.argument("token_id")
def revoke(token_id: str) -> None:
    """Make a token worthless."""
    client().call("DELETE", f"/api/v1/tokens/{token_id}")
    click.echo(f"Revoked {token_id}.")


@token.command("sign-in")
def sign_in() -> None:
    """Print a URL that signs a browser in to the console, once."""
    connection = client()
    click.echo(connection.url + connection.call("POST", "/api/v1/sign-in")["path"])
