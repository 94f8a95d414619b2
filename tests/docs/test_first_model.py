"""The tutorial works as it is written: its commands, in their order, in a fresh folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.docs.terminal import Terminal, blocks

BLOCKS = blocks("tutorials/first-model.md")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path)
    opened.environment["MODELYARD_PORT"] = "0"
    yield opened
    opened.close()


def test_from_an_empty_folder_to_a_model_in_production(terminal: Terminal):
    init, up, run, approve, endpoints, predict, rollback, audit = BLOCKS
    assert terminal.run(init).returncode == 0
    terminal.start(up.strip(), terminal.folder / "flights")
    wait_until(lambda: "Stop with Ctrl-C" in terminal.said(), "the yard to be up", 120)
    trained = terminal.run(run)
    assert trained.returncode == 0, trained.stderr
    assert "gates passed" in trained.stdout and "approval asked: modelyard approve flight-delay/1" in trained.stdout
    approved = terminal.run(approve)
    assert "flight-delay v1 for production: approved" in approved.stdout, approved.stderr
    wait_until(lambda: "production/flight-delay" in terminal.run(endpoints).stdout, "the endpoint")
    wait_until(lambda: terminal.run(predict).returncode == 0, "production to answer", 90)
    answered = terminal.run(predict)
    assert '"version": "1"' in answered.stdout and '"predictions"' in answered.stdout
    back = terminal.run(rollback)
    assert back.returncode == 1 and "no earlier deployment to go back to" in back.stderr
    checked = terminal.run(audit)
    assert checked.returncode == 0 and "intact" in checked.stdout, checked.stdout
