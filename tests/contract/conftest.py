"""One suite over every adapter: SQLite and PostgreSQL; local files and S3."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelyard.store.database import Store
from tests.contract.postgres import Cluster, make_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="modelyard-pg-", dir="/tmp"))
    running = make_cluster(folder)
    yield running
    running.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'yard.db'}"
    return request.getfixturevalue("cluster").new_database()


@pytest.fixture
def open_store(database: str) -> Iterator[Callable[[], Store]]:
    """Opens the same database as often as asked: each opening stands for a server process."""
    opened: list[Store] = []

    def open_one() -> Store:
        opened.append(Store(database))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()
