"""What goes on shows as the last line of a terminal, and nowhere else."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

SOURCE = """
import time
from pathlib import Path
import modelyard as yard


@yard.step
def fit() -> int:
    print("epoch 1", flush=True)
    while not Path("go").exists():
        time.sleep(0.01)
    return 1


@yard.pipeline
def main():
    fit()
"""


def start(folder: Path, output: int) -> "subprocess.Popen[bytes]":
    (folder / "modelyard.toml").write_text('[project]\nname = "p"\n')
    (folder / "pipeline.py").write_text(SOURCE)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MODELYARD", "MLFLOW"))}
    command = [sys.executable, "-m", "modelyard", "run", "pipeline.py:main"]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)


def test_a_terminal_shows_what_runs_and_for_how_long(tmp_path: Path):
    ours, theirs = pty.openpty()
    process = start(tmp_path, theirs)
    os.close(theirs)
    seen = b""
    while re.search(r"… fit \d+ s", seen.decode(errors="replace")) is None:
        seen += os.read(ours, 4096)
    (tmp_path / "go").touch()
    try:
        while data := os.read(ours, 4096):
            seen += data
    except OSError:  # the terminal's other side is closed
        pass
    os.close(ours)
    assert process.wait(60) == 0
    text = seen.decode()
    assert "epoch 1\r\n" in text and "✓ fit" in text
    after = text[text.rindex("… fit") :]
    assert after.index("\r\x1b[2K") < after.index("✓ fit")


def test_elsewhere_it_prints_lines_only(tmp_path: Path):
    (tmp_path / "go").touch()
    process = start(tmp_path, subprocess.PIPE)
    text = process.communicate(timeout=60)[0].decode()
    assert "…" not in text and "\x1b" not in text
    assert text.splitlines()[0] == "epoch 1"
