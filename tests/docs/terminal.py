"""A reader's terminal: a page's blocks, run as they are written, in one shell's folder and variables."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str = "") -> list[str]:
    """The page's blocks of a language, those without one by default."""
    text = (ROOT / "docs" / page).read_text()
    return [content for found, content in BLOCK.findall(text) if found == language]


class Terminal:
    """A shell in a folder; `keep` are the variables that a block may leave for the next one."""

    def __init__(self, folder: Path, path: Path = Path(sys.executable).parent, keep: str = "BORIS") -> None:
        self.folder, self._keep = folder, keep
        names = ("MODELYARD", "MLFLOW", "PYTHONPATH")
        held = {name: value for name, value in os.environ.items() if not name.startswith(names)}
        self.environment = {**held, "PATH": f"{path}:{held['PATH']}"}
        self.up: subprocess.Popen[bytes] | None = None
        self._state = folder / "terminal.sh"
        self._state.write_text("")

    def run(self, block: str) -> "subprocess.CompletedProcess[str]":
        """Run a block; the folder and the variables that it leaves hold for the next one."""
        keep = f"{{ echo cd \"'$PWD'\"; export -p | grep -E '{self._keep}'; }} > {self._state} || true"
        script = f"set -e; . {self._state}; {block}\n{keep}"
        return subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def must(self, block: str) -> str:
        """What a block prints; it has to succeed."""
        done = self.run(block)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, block: str, folder: Path) -> None:
        with (self.folder / "up.log").open("wb") as log:
            self.up = subprocess.Popen(
                block.split(), cwd=folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def said(self) -> str:
        return (self.folder / "up.log").read_text()

    def close(self) -> None:
        if self.up is not None and self.up.poll() is None:
            os.killpg(self.up.pid, signal.SIGTERM)
            self.up.wait(40)
