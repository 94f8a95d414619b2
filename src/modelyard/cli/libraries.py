"""The libraries of commands that load a model themselves: ours, or an environment of its own, as a worker gets."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from modelyard.cli.context import home
from modelyard.domain.errors import ConfigError, Invalid, Unavailable
from modelyard.domain.serving import Libraries

REMEDY = "Correct the cause, or take the libraries that are here: --libraries shared."


def option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--libraries, with the words of the configuration's `libraries`."""
    told = "An environment of the model's own, built with uv: auto where the libraries here differ, own, or shared."
    choice = click.Choice(get_args(Libraries))
    return click.option("--libraries", "wanted", type=choice, default="auto", show_default=True, help=told)(command)


def python_of(folder: Path, wanted: Libraries, extra: tuple[str, ...]) -> str | None:
    """The interpreter of the environment that the model in a folder has to itself; None where ours serves.

    extra: packages of ours that the command needs there. Raises Invalid, MissingExtra, Unavailable.
    """
    if wanted == "shared":
        return None
    from modelyard.deliver.deployments import libraries  # late: reads what is installed

    try:
        needs, why = libraries.differences(folder, wanted)
        if not why:
            return None
        click.echo(f"The model gets an environment of its own: {'; '.join(why)}.", err=True)
        return libraries.built(_place(), needs, why, extra).python
    except (Invalid, Unavailable) as error:
        raise type(error)(error.message, remedy=REMEDY) from error


def warn(folder: Path) -> None:
    """Say in what the libraries here differ from those that the model in a folder was logged with."""
    from modelyard.deliver.deployments import libraries  # late: reads what is installed

    try:
        _, differing = libraries.differences(folder, "auto")
    except Invalid as error:
        differing = [error.message]
    if differing:
        click.echo(
            f"The model was logged with other libraries ({'; '.join(differing)}): it may fail or answer otherwise. "
            f"To be sure, on every node: pip install -r {folder / 'requirements.txt'}",
            err=True,
        )


def _place() -> Path:
    """Whose environments they are: the yard's, or this user's where there is no yard."""
    try:
        return home()
    except ConfigError:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelyard"
