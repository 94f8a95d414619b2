"""Yards that are up, stopped at the end of a test or of a module."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.deliver.deployments.house import FAST, House
from tests.unit.deliver.deployments.shelf import repacked, wheel


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Callable[..., House]]:
    """Makes a yard of a project text that is up; further arguments go to `up`."""
    made: list[House] = []

    def make(project: str = FAST, *options: str) -> House:
        folder = tmp_path / f"project-{len(made)}"
        folder.mkdir()
        made.append(House(folder, project))
        return made[-1].start(*options)

    yield make
    for house in made:
        house.stop()


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only place where uv looks: two versions of one library, and what a worker needs."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    for version in ("1.0", "2.0"):
        wheel(folder, "greeter", version, {"greeter.py": f"VERSION = {version}\n".encode()}, "py3-none-any", [])
    for name in ("msgspec", "pyyaml", "numpy", "uvloop"):
        repacked(folder, name)
    settings = {
        "UV_FIND_LINKS": str(folder),
        "UV_NO_INDEX": "1",
        "UV_OFFLINE": "1",
        "UV_CACHE_DIR": str(tmp_path / "c"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return folder
