"""Environments that uv builds."""

import platform
import subprocess
from pathlib import Path

import pytest

from modelyard.kit.uv import Uv


def test_a_place_is_where_the_caller_means_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that only serves has its home, by default, in the folder where its command was typed."""
    monkeypatch.chdir(tmp_path)
    folder, linked = Path("home/environments"), tmp_path / "linked"
    folder.mkdir(parents=True)
    linked.mkdir()
    (linked / "__init__.py").write_text("")
    for _ in range(2):  # the second finds it
        python = Uv(folder).build(folder / "one", platform.python_version(), "", {"linked": linked})
        subprocess.run([python, "-c", "import linked"], check=True)
    assert Path(python).parent.parent == tmp_path / folder / "one"
