"""`modelyard apply`: which versions serve where, declared in a file that Git keeps."""

import tomllib
from pathlib import Path
from typing import Any

import click

from modelyard.cli.context import client
from modelyard.cli.output import json_option, show_json
from modelyard.client.api import path
from modelyard.domain.errors import ConfigError

ALLOWED = {"version"}


def read(file: Path) -> dict[tuple[str, str], int | str]:
    """{(environment, endpoint): version or alias} of a file. Raises ConfigError that names file and key."""
    try:
        raw = tomllib.loads(file.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"There is no file {file}.", remedy="Name the file that declares deployments.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}.", remedy="Mend the line it names.") from error
    wanted: dict[tuple[str, str], int | str] = {}
    for environment, endpoints in raw.items():
        if not isinstance(endpoints, dict):
            raise ConfigError(f"{file}: {environment} is no table.", remedy=_example(environment))
        for name, declared in endpoints.items():
            key = f"{file}: {environment}.{name}"
            if not isinstance(declared, dict) or set(declared) != ALLOWED:
                found = ", ".join(declared) if isinstance(declared, dict) else repr(declared)
                raise ConfigError(
                    f"{key} takes version alone, found {found or 'nothing'}.", remedy=_example(environment)
                )
            version = declared["version"]
            if isinstance(version, bool) or not isinstance(version, int | str) or version == "":
                raise ConfigError(f"{key}.version is {version!r}.", remedy="Give a number or an alias.")
            wanted[environment, name] = version
    return wanted


def _example(environment: str) -> str:
    return f"Write [{environment}] and below it flight-delay = {{ version = 3 }}."


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default="deployments.toml")
@click.option("--dry-run", is_flag=True, help="Show what would change, change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def apply(file: Path, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Make endpoints serve what a file declares; shows the difference first.

    Versions need their approvals as ever. Endpoints that the file does not name are left alone.
    """
    changes = _changes(read(file))
    if as_json:
        show_json(changes)
    else:
        _show(changes)
    due = [change for change in changes if change["action"] == "deploy"]
    if dry_run or not due:
        return
    if not yes and not as_json:
        click.confirm(f"Deploy {len(due)} version(s)?", abort=True)
    for change in due:
        body = {"model": change["endpoint"], "version": change["to"]}
        client().call("POST", path("environments", change["environment"], "deployments"), body=body)
        if not as_json:
            click.echo(f"{change['environment']}/{change['endpoint']}: v{change['to']} rolls out.")


def _changes(wanted: dict[tuple[str, str], int | str]) -> list[dict[str, Any]]:
    """What each declared endpoint needs: nothing, a deployment, or patience. Raises NotFound."""
    held = {(e["environment"], e["name"]): e for e in client().call("GET", path("endpoints"))["endpoints"]}
    changes: list[dict[str, Any]] = []
    for (environment, name), version in wanted.items():
        number = client().call("GET", path("models", name, "versions", version))["version"]
        deployments = held.get((environment, name), {}).get("deployments", {})
        live = deployments.get("live", {}).get("version")
        coming = deployments.get("next", {}).get("version")
        action = "deploy"
        if coming == number:
            action = "under way"
        elif live == number and coming is None:
            action = "none"
        change = {"environment": environment, "endpoint": name, "from": live, "to": number, "action": action}
        changes.append(change)
    return changes


def _show(changes: list[dict[str, Any]]) -> None:
    for change in changes:
        where = f"{change['environment']}/{change['endpoint']}"
        before = f"v{change['from']}" if change["from"] else "nothing"
        if change["action"] == "none":
            click.echo(f"  {where}: serves v{change['to']}")
        elif change["action"] == "under way":
            click.echo(f"  {where}: {before} -> v{change['to']} is under way")
        else:
            click.echo(click.style(f"~ {where}: {before} -> v{change['to']}", fg="yellow"))
    if all(change["action"] == "none" for change in changes):
        click.echo("Nothing to change.")
