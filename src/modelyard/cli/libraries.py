"""A warning for commands that load a model in this environment, whatever libraries it names."""

from pathlib import Path

import click

from modelyard.domain.errors import Invalid


def warn(folder: Path) -> None:
    """Say in what the libraries here differ from those that the model in a folder was logged with.

    An endpoint's workers get an environment of their own then; a command has only this one.
    """
    from modelyard.deliver.deployments import libraries  # late: reads what is installed

    try:
        _, differing = libraries.differences(folder, "auto")
    except Invalid as error:
        differing = [error.message]
    if differing:
        click.echo(
            f"The model was logged with other libraries ({'; '.join(differing)}): it may fail or answer otherwise. "
            f"To be sure: pip install -r {folder / 'requirements.txt'}",
            err=True,
        )
