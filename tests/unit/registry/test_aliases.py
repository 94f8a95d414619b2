"""Aliases move at a word, but the champion that gates compare with follows what production serves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.domain.errors import Conflict, Invalid
from modelyard.registry import versions
from tests.unit.registry.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    opened = House(f"sqlite:///{tmp_path / 'yard.db'}")
    opened.register()
    opened.register()
    yield opened
    opened.close()


def point(house: House, alias: str, number: int | None, cause: str | None = None) -> None:
    house.do(lambda conn: versions.set_alias(conn, "m", alias, number, actor="ana", cause=cause))


def test_without_deployments_anybody_who_registers_moves_the_champion(house: House):
    point(house, "champion", 1)
    point(house, "champion", 2)
    assert house.do(lambda conn: versions.aliases_of(conn, "m")) == {"champion": 2}


def test_a_champion_made_by_a_rollout_is_moved_by_rollouts_only(house: House):
    point(house, "champion", 1, cause="e1")
    for wanted in (2, None):
        with pytest.raises(Conflict, match="follows what production serves"):
            point(house, "champion", wanted)
    point(house, "candidate", 2)
    point(house, "champion", 2, cause="e2")
    assert house.do(lambda conn: versions.aliases_of(conn, "m")) == {"candidate": 2, "champion": 2}


@pytest.mark.parametrize("alias", ["", "3", "latest"])
def test_an_alias_is_a_word(house: House, alias: str):
    with pytest.raises(Invalid, match="cannot be an alias"):
        point(house, alias, 1)
