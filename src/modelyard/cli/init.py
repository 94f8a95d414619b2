"""`modelyard init`: write a new project."""

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("."))
@click.option("--template", default="flights", show_default=True, help="What to start from.")
def init(folder: Path, template: str) -> None:
    """Write a new project into FOLDER (this one by default); nothing is overwritten."""
    from modelyard.build.pipelines import scaffold  # late: --help needs none of it

    for file in scaffold.write(template, folder):
        click.echo(f"  {file}")
    inside = "" if folder == Path(".") else f"cd {folder} && "
    click.echo(f"Next: {inside}modelyard up &   then: modelyard run pipeline.py:train_delay")
