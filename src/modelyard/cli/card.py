"""`modelyard card` and `modelyard lineage`: what a version is, and where it comes from."""

from pathlib import Path

import click

from modelyard.cli.context import client
from modelyard.cli.output import json_option, show_json
from modelyard.client.api import path
from modelyard.domain.errors import Invalid


def _named(version: str) -> tuple[str, str]:
    model, slash, reference = version.rpartition("/")
    if not slash or not model or not reference:
        raise Invalid(f"{version!r} names no version.", remedy="Write MODEL/VERSION, such as flight-delay/3.")
    return model, reference


html_option = click.option("--html", "as_html", is_flag=True, help="One HTML file that needs nothing else.")
output_option = click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where to write the HTML file."
)


def _write(model: str, reference: str, what: str, output: Path | None) -> None:
    data = client().download(path("models", model, "versions", reference, f"{what}.html"))
    target = output or Path(f"{model}-{reference}-{what}.html")
    target.write_bytes(data)
    click.echo(f"Written to {target}.")


@click.command()
@click.argument("version")
@html_option
@output_option
def card(version: str, as_html: bool, output: Path | None) -> None:
    """Show the model card draft of VERSION (flight-delay/3, flight-delay/champion) as JSON, or write it as HTML."""
    model, reference = _named(version)
    if as_html or output is not None:
        _write(model, reference, "card", output)
        return
    show_json(client().call("GET", path("models", model, "versions", reference, "card")))


@click.command()
@click.argument("version")
@html_option
@output_option
@json_option
def lineage(version: str, as_html: bool, output: Path | None, as_json: bool) -> None:
    """Show what VERSION was made from and where it serves, or write it as HTML."""
    model, reference = _named(version)
    if as_html or output is not None:
        _write(model, reference, "lineage", output)
        return
    found = client().call("GET", path("models", model, "versions", reference, "lineage"))
    if as_json:
        show_json(found)
        return
    shown = {node["id"]: f"{node['kind']} {node['label']}" for node in found["nodes"]}
    for edge in found["edges"]:
        click.echo(f"{shown[edge['from']]}  -- {edge['how']} -->  {shown[edge['to']]}")
