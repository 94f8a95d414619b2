"""Environments beside the project's own, for clients that cannot share it; made once, outside the project."""

import shutil
import subprocess
import sys
from pathlib import Path

HOMES = Path.home() / ".cache" / "modelyard-peers"


def python_with(name: str, *wanted: str) -> Path:
    """The interpreter of the environment `name`, which holds the packages that are wanted."""
    home = HOMES / name
    python = home / "bin" / "python"
    if (home / "made").exists():
        return python
    if shutil.which("uv"):
        subprocess.run(["uv", "venv", "-q", "--clear", "--python", sys.executable, str(home)], check=True)
        subprocess.run(["uv", "pip", "install", "-q", "--python", str(python), *wanted], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *wanted], check=True)
    (home / "made").touch()
    return python
