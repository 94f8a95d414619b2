"""An export of the chain verifies by itself, and names what was changed in it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.events import audit, log
from modelyard.store.database import Store


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[list[str]]:
    store = Store(f"sqlite:///{tmp_path / 'yard.db'}")
    for number in range(8):
        store.write_now(
            lambda conn, n=number: log.append(
                conn, "run.created", f"run/{n}", "ana", {"n": n, "é": 0.1 * n}, time=n * 997
            )
        )
    yield store.read_now(lambda conn: [audit.line(event) for event in log.walk(conn)])
    store.close()


def test_an_untouched_export_is_intact(lines: list[str]) -> None:
    found = audit.verify_lines(lines)
    assert found.intact and found.records == 8 and found.head == json.loads(lines[-1])["hash"]


@pytest.mark.parametrize(
    ("key", "value"), [("actor", "eve"), ("data", {}), ("subject", "x"), ("time", "2026-01-01T00:00:00.000Z")]
)
def test_a_changed_record_is_named(lines: list[str], key: str, value: object) -> None:
    lines[3] = json.dumps({**json.loads(lines[3]), key: value})
    assert audit.verify_lines(lines).broken_at == 4


def test_a_removed_or_moved_record_is_named(lines: list[str]) -> None:
    assert audit.verify_lines([*lines[:3], *lines[4:]]).broken_at == 5
    assert audit.verify_lines([lines[1], lines[0], *lines[2:]]).broken_at == 2


def test_a_cut_line_is_named(lines: list[str]) -> None:
    found = audit.verify_lines([*lines[:5], lines[5][:40]])
    assert found.broken_at == 6 and "line 6 is not a record" in found.reason
