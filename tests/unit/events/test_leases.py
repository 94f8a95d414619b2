"""Leases: one holder at a time, taken over when the holder is gone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.events import leases
from modelyard.store.database import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'yard.db'}")
    yield opened
    opened.close()


def take(store: Store, holder: str, now: int) -> bool:
    return store.write_now(lambda conn: leases.take(conn, "rollouts", holder, now))


def test_one_holds_and_keeps_it(store: Store) -> None:
    assert take(store, "a", 0)
    assert not take(store, "b", 10)
    assert take(store, "a", leases.LEASE_MS - 1)
    assert not take(store, "b", leases.LEASE_MS + 1)


def test_a_lapsed_lease_goes_to_whoever_asks_first(store: Store) -> None:
    assert take(store, "a", 0)
    assert take(store, "b", leases.LEASE_MS + 1)
    assert not take(store, "a", leases.LEASE_MS + 2)
