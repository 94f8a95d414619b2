"""`modelyard init`: write a new project."""

from pathlib import Path

import click

from modelyard.domain.errors import Invalid

PLAIN = "plain"
MOST_HINTS = 5


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("."))
@click.option("--data", type=click.Path(path_type=Path), help="Your table: CSV, TSV, Parquet, Arrow or JSON lines.")
@click.option("--target", help="The column of it to predict.")
@click.option(
    "--template", default=PLAIN, show_default=True, help="What to start from: plain, or flights (the demo)."
)
def init(folder: Path, data: Path | None, target: str | None, template: str) -> None:
    """Write a new project into FOLDER (this one by default); nothing is overwritten.

    Without --data it predicts a table that comes with scikit-learn.

    modelyard init churn --data customers.csv --target churned
    """
    inside = "" if folder == Path(".") else f"cd {folder} && "
    if template != PLAIN:
        from modelyard.build.pipelines import scaffold  # late: --help needs none of it

        if data or target:
            raise Invalid(f"The template {template} has its own data.", remedy="Leave out --data and --target.")
        for file in scaffold.write(template, folder):
            click.echo(f"  {file}")
        click.echo(f"Next: {inside}modelyard up &   then: modelyard run pipeline.py:train_delay")
        return
    from modelyard.steps.starting import start  # late: see above

    started = start(folder, data, target)
    for file in started.files:
        click.echo(f"  {file}")
    click.echo(f"{started.task}, {started.rows:,} rows")
    for hint in started.hints[:MOST_HINTS]:
        click.echo(f"  ! {hint['column']} {hint['hint']}. {hint['remedy']}")
    if len(started.hints) > MOST_HINTS:
        click.echo(f"  ! and {len(started.hints) - MOST_HINTS} more: modelyard explore")
    click.echo(f"Next: {inside}modelyard run   (to serve it: modelyard up)")
