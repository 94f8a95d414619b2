"""One suite over every adapter: SQLite and PostgreSQL; local files and S3."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelyard.store.database import Store
from tests.contract.postgres import Cluster, running_cluster
from tests.contract.s3server import S3Server, start_s3


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


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


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    running = start_s3(tmp_path_factory.mktemp("s3"))
    yield running
    running.process.terminate()
    running.process.wait(20)


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The S3 server, with the environment that points at it."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server
