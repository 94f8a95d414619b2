"""`modelyard apply`: which versions serve where and how they get there, declared in a file that Git keeps."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from modelyard.cli.context import client
from modelyard.cli.output import json_option, show_json
from modelyard.client.api import path
from modelyard.domain.errors import ConfigError

if TYPE_CHECKING:
    from modelyard.domain.deployments_file import Declared
    from modelyard.domain.environments import AbortIf, RolloutPolicy
    from modelyard.domain.serving import Hosting, Scale

Change = dict[str, Any]
ENVIRONMENT, MODEL = "as the environment's", "as the model's"


def read(file: Path) -> "dict[tuple[str, str], Declared]":
    """What a file declares. Raises ConfigError that names file and key."""
    from modelyard.domain.deployments_file import parse  # late: --help needs none of it

    try:
        return parse(file.read_text(), str(file))
    except FileNotFoundError as error:
        raise ConfigError(f"There is no file {file}.", remedy="Name the file that declares deployments.") from error


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default="deployments.toml")
@click.option("--dry-run", is_flag=True, help="Show what would change, change nothing.")
@click.option("--prune", is_flag=True, help="Remove endpoints that the file leaves out of the environments it names.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def apply(file: Path, dry_run: bool, prune: bool, yes: bool, as_json: bool) -> None:
    """Make endpoints serve what a file declares, by the rollouts that it declares; shows the difference first.

    Versions need their approvals as ever. Endpoints that the file does not name are left alone, unless --prune.
    """
    changes = _changes(read(file), str(file), prune)
    if as_json:
        show_json(changes)
    else:
        _show(changes)
    due = [change for change in changes if change["action"] != "none"]
    if dry_run or not due:
        return
    if not yes and not as_json:
        click.confirm(f"Change {len(due)} endpoint(s)?", abort=True)
    for change in due:
        said = _carry_out(change, f"as {file} declares")
        if not as_json and said:
            click.echo(f"{change['environment']}/{change['endpoint']}: {said}")


def _changes(wanted: "dict[tuple[str, str], Declared]", file: str, prune: bool) -> list[Change]:
    """What each endpoint needs, in the file's order, those to remove last. Raises NotFound, ConfigError."""
    held = {(e["environment"], e["name"]): e for e in client().call("GET", path("endpoints"))["endpoints"]}
    known = client().call("GET", path("project"))["environments"]
    for environment, _ in wanted:
        if environment not in known:
            raise ConfigError(
                f"{file}: there is no environment {environment!r}.",
                remedy=f"Environments: {', '.join(sorted(known))}.",
            )
    found = [_change(place, declared, held.get(place)) for place, declared in wanted.items()]
    named = {environment for environment, _ in wanted}
    for environment, name in held if prune else ():
        if environment in named and (environment, name) not in wanted:
            live = held[environment, name]["deployments"].get("live", {}).get("version")
            found.append({"environment": environment, "endpoint": name, "from": live, "to": None, "action": "remove"})
    return found


def _change(place: tuple[str, str], declared: "Declared", held: dict[str, Any] | None) -> Change:
    """The difference at one endpoint: its version, and how its rollouts go."""
    environment, name = place
    deployments = held["deployments"] if held else {}
    live, coming = (deployments.get(role, {}).get("version") for role in ("live", "next"))
    change: Change = {"environment": environment, "endpoint": name, "from": live, "to": live, "action": "none"}
    if declared.version is not None:
        change["to"] = client().call("GET", path("models", name, "versions", declared.version))["version"]
        if coming == change["to"]:
            change["under_way"] = True
        elif live == change["to"]:
            change["action"] = "none" if coming is None else "abort"
        else:
            change["action"] = "deploy"
    after = {key: _plain(getattr(declared, key)) for key in ("rollout", "scale", "hosting", "abort_if")}
    before = held["declared"] if held else dict.fromkeys(after)
    if before != after:
        change |= {"declared_from": before, "declared": after}
        change["action"] = "declare" if change["action"] == "none" else change["action"]
    return change


def _plain(declared: "RolloutPolicy | Scale | Hosting | AbortIf | None") -> dict[str, Any] | None:
    import msgspec  # late: see `read`

    return None if declared is None else msgspec.to_builtins(declared)


def _carry_out(change: Change, why: str) -> str:
    """Do it; what to tell of it. The rollout is declared first, so that the version goes by it."""
    environment, name = change["environment"], change["endpoint"]
    here = path("environments", environment, "endpoints", name)
    if change["action"] == "remove":
        client().call("DELETE", here, body={"reason": why})
        return "removed."
    if "declared" in change:
        client().call("PUT", here, body=change["declared"])
    if change["action"] == "deploy":
        body = {"model": name, "version": change["to"]}
        made = client().call("POST", path("environments", environment, "deployments"), body=body)
        return f"v{change['to']} rolls out ({made['policy']['strategy']})."
    if change["action"] == "abort":
        client().call("POST", here + "/rollout/abort", body={"reason": why})
        return f"the rollout under way is aborted, v{change['to']} serves."
    return "its rollouts and workers go as declared."


def _show(changes: list[Change]) -> None:
    for change in changes:
        where = f"{change['environment']}/{change['endpoint']}"
        before, after = (f"v{change[key]}" if change[key] else "nothing" for key in ("from", "to"))
        if change["action"] == "remove":
            click.echo(click.style(f"- {where}: {before} -> removed", fg="red"))
            continue
        told = f"{before} -> {after}" if change["action"] == "deploy" else f"serves {after}"
        told = f"{before} -> {after} is under way" if change.get("under_way") else told
        told += ", the rollout under way is aborted" if change["action"] == "abort" else ""
        mark, color = (" ", None) if change["action"] == "none" else ("~", "yellow")
        click.echo(click.style(f"{mark} {where}: {told}", fg=color))
        for key, (was, will) in _declarations(change).items():
            click.echo(click.style(f"    {key}: {was}", fg="red"))
            click.echo(click.style(f"    {' ' * len(key)}-> {will}", fg="green"))
    if all(change["action"] == "none" for change in changes):
        click.echo("Nothing to change.")


def _declarations(change: Change) -> dict[str, tuple[str, str]]:
    """{what: (before, after)} of what is declared otherwise now, each in a line."""
    if "declared" not in change:
        return {}
    import msgspec  # late: see `read`

    from modelyard.domain.environments import RolloutPolicy
    from modelyard.domain.serving import Scale

    usual = {"rollout": msgspec.to_builtins(RolloutPolicy()), "scale": msgspec.to_builtins(Scale())}
    elsewhere = {"rollout": ENVIRONMENT, "scale": MODEL}
    found: dict[str, tuple[str, str]] = {}
    for key, plain in usual.items():
        was, will = (change[side][key] for side in ("declared_from", "declared"))
        if was != will:
            found[key] = (_told(was, plain, elsewhere[key]), _told(will, plain, elsewhere[key]))
    return found | _one_by_one(change)


def _one_by_one(change: Change) -> dict[str, tuple[str, str]]:
    """The same of what is declared key by key: where workers run, what they take, bounds."""
    found: dict[str, tuple[str, str]] = {}
    for section, shown in (("hosting", ""), ("abort_if", "abort_if.")):
        before, after = (change[side][section] or {} for side in ("declared_from", "declared"))
        for key in {**before, **after}:
            was, will = before.get(key), after.get(key)
            if was != will:
                elsewhere = MODEL if key in ("workers", "cpus", "memory_mb") else ENVIRONMENT
                found[shown + key] = (_value(was, elsewhere), _value(will, elsewhere))
    return found


def _value(declared: Any, elsewhere: str) -> str:
    if isinstance(declared, dict):
        return " ".join(f"{key}={value}" for key, value in declared.items())
    return elsewhere if declared is None else str(declared)


def _told(declared: dict[str, Any] | None, usual: dict[str, Any], elsewhere: str) -> str:
    """In a line: the strategy, if it has one, and what differs from the defaults."""
    if declared is None:
        return elsewhere
    said = [declared["strategy"]] if "strategy" in declared else [f"{declared['min']}-{declared['max']} workers"]
    skipped = ("strategy", "min", "max")
    more = [f"{key}={value}" for key, value in declared.items() if key not in skipped and value != usual.get(key)]
    return " ".join([*said, *(item.replace("'", "").replace(", ", ",") for item in more)])
