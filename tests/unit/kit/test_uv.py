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
    made = [Uv(folder).build(folder / "one", platform.python_version(), "", {"linked": linked}) for _ in range(2)]
    subprocess.run([made[0], "-c", "import linked"], check=True)
    assert made[0] == made[1] and Path(made[0]).parent.parent == tmp_path / folder / "one"
