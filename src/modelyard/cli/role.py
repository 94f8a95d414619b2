"""`modelyard role`: people and services, and what they may do."""

import click

from modelyard.cli.context import client
from modelyard.cli.output import json_option, table
from modelyard.client.api import path
from modelyard.domain.permissions import ROLES


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def role(context: click.Context, as_json: bool) -> None:
    """List principals with their roles; add them and set roles."""
    if context.invoked_subcommand:
        return
    found = client().call("GET", "/api/v1/principals")["principals"]
    shown = [*("name", "kind", "roles", "behind"), ("state", lambda p: "disabled" if p["disabled"] else "active")]
    table(found, shown, as_json)


@role.command()
@click.argument("name")
@click.argument("roles", nargs=-1, required=True)
@click.option("--service", is_flag=True, help="A program, not a person.")
@click.option("--behind", help="The person responsible for a service.")
def add(name: str, roles: tuple[str, ...], service: bool, behind: str | None) -> None:
    """Add a person or service with roles: modelyard role add boris approver."""
    body = {"name": name, "roles": list(roles), "kind": "service" if service else "person", "behind": behind}
    client().call("POST", "/api/v1/principals", body=body)
    click.echo(f"Added {name} ({', '.join(roles)}). Give it a token: modelyard token create --for {name}")


@role.command("set")
@click.argument("name")
@click.argument("roles", nargs=-1, required=True)
def set_roles(name: str, roles: tuple[str, ...]) -> None:
    """Replace a principal's roles."""
    client().call("PUT", path("principals", name, "roles"), body={"roles": list(roles)})
    click.echo(f"{name}: {', '.join(roles)}")


@role.command()
@click.argument("name")
def disable(name: str) -> None:
    """Stop a person or service: their tokens hold no longer."""
    done = client().call("DELETE", path("principals", name))
    click.echo(f"{name} is disabled; {done['tokens_revoked']} token(s) revoked.")


@role.command()
@click.argument("name")
def enable(name: str) -> None:
    """Let a disabled person or service in again; issue new tokens."""
    client().call("POST", path("principals", name, "enable"), body={})
    click.echo(f"{name} is enabled again. Give it a token: modelyard token create --for {name}")


@role.command("list")
@json_option
def known(as_json: bool) -> None:
    """List the roles that there are, and what each may do."""
    rows = [{"role": str(name), "may": sorted(f"{p} ({r})" for p, r in may.items())} for name, may in ROLES.items()]
    table(rows, ["role", "may"], as_json)
