"""The routing file and the split of traffic."""

import itertools
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.deliver.serving.routing import RoutingFile, Split, Target
from modelyard.kit.files import atomic_write


def targets(*weights: float) -> tuple[Target, ...]:
    return tuple(Target(str(number), number, ("s",), weight) for number, weight in enumerate(weights))


@given(st.lists(st.integers(0, 100), min_size=1, max_size=5).filter(any))
def test_shares_are_exact_over_a_whole_cycle(weights: list[int]):
    split = Split(targets(*weights))
    total = sum(weights)
    found = Counter(target.deployment for _ in range(total) if (target := split.next()) is not None)
    assert [found[str(number)] for number in range(len(weights))] == weights


def test_a_canary_is_spread_out_and_not_sent_in_a_row():
    split = Split(targets(0.95, 0.05))
    order = [target.deployment for _ in range(200) if (target := split.next()) is not None]
    canary = [number for number, name in enumerate(order) if name == "1"]
    assert len(canary) == 10 and {b - a for a, b in itertools.pairwise(canary)} == {20}


def test_nothing_gets_traffic_without_weight():
    assert Split(()).next() is None
    assert Split(targets(0.0, 0.0)).next() is None
    split = Split(targets(0.0, 1.0))
    assert {target.deployment for _ in range(9) if (target := split.next()) is not None} == {"1"}


def content(revision: int) -> bytes:
    target = {"deployment": "d", "version": 1, "sockets": ["/s"], "weight": 1}
    return json.dumps(
        {"environment": "e", "revision": revision, "endpoints": {"m": {"model": "m", "routes": [target]}}}
    ).encode()


def test_a_replaced_file_is_in_force_once(tmp_path: Path):
    path = tmp_path / "routing.json"
    routing = RoutingFile(path)
    assert not routing.refresh() and routing.current is None
    for revision in (1, 2):
        atomic_write(path, content(revision), durable=False)
        assert routing.refresh() and not routing.refresh()
        assert routing.current is not None and routing.current.revision == revision
    limits = routing.current.endpoints["m"].limits
    assert (limits.max_body_bytes, limits.timeout_s, limits.max_concurrency) == (6_291_456, 60.0, 256)


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"environment": "e"}', b"\xff", content(2)[:-1]])
def test_a_damaged_file_leaves_the_last_good_one(tmp_path: Path, damaged: bytes):
    path = tmp_path / "routing.json"
    atomic_write(path, content(1), durable=False)
    routing = RoutingFile(path)
    assert routing.refresh()
    atomic_write(path, damaged, durable=False)
    assert not routing.refresh() and routing.error
    assert routing.current is not None and routing.current.revision == 1
    atomic_write(path, content(3), durable=False)
    assert routing.refresh() and not routing.error


def test_a_file_that_is_gone_leaves_the_last_good_one(tmp_path: Path):
    path = tmp_path / "routing.json"
    atomic_write(path, content(1), durable=False)
    routing = RoutingFile(path)
    routing.refresh()
    os.unlink(path)
    assert not routing.refresh() and routing.current is not None


def test_weights_are_validated(tmp_path: Path):
    path = tmp_path / "routing.json"
    atomic_write(path, content(1).replace(b'"weight": 1', b'"weight": -1'), durable=False)
    routing = RoutingFile(path)
    assert not routing.refresh() and routing.error
