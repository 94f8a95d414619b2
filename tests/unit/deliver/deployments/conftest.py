"""Yards that are up, stopped at the end of a test or of a module."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.deliver.deployments.house import FAST, House


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Callable[..., House]]:
    """Makes a yard of a project text that is up."""
    made: list[House] = []

    def make(project: str = FAST) -> House:
        folder = tmp_path / f"project-{len(made)}"
        folder.mkdir()
        made.append(House(folder, project))
        return made[-1].start()

    yield make
    for house in made:
        house.stop()
