"""A Ray cluster for the tests that run on one."""

from collections.abc import Iterator

import pytest

from tests.ray_cluster import RayCluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    made = RayCluster()
    yield made
    made.stop()
