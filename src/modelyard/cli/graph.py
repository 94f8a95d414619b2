"""`modelyard graph`: draw a pipeline."""

from pathlib import Path

import click

from modelyard.cli.context import project_dir


@click.command()
@click.argument("pipeline", metavar="FILE.py:PIPELINE")
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; may be repeated.")
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Write it as SVG into this file.")
def graph(pipeline: str, params: tuple[str, ...], svg: Path | None) -> None:
    """Draw a pipeline: its steps, what each needs, its branches and fan-outs. Nothing is run.

    modelyard graph pipeline.py:train_delay --svg train_delay.svg
    """
    from modelyard.build.pipelines.drawing import as_svg, as_text  # late: --help needs none of it
    from modelyard.build.pipelines.project import coerce, load_pipeline
    from modelyard.cli.run import pair

    _, found = load_pipeline(project_dir(), pipeline)
    drawn = found.trace(coerce(found, dict(pair(text) for text in params)))
    if svg is None:
        click.echo(as_text(drawn))
    else:
        svg.write_text(as_svg(drawn))
        click.echo(f"wrote {svg}")
