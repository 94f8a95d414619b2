"""A database of its own for each test, with an admin."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.governance import principals
from modelyard.store.database import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'yard.db'}")
    opened.write_now(lambda conn: principals.create(conn, "owner", "person", ["admin"], actor="modelyard"))
    yield opened
    opened.close()
