"""Python environments made by uv: requirements into a lock, a lock into a folder with an interpreter of its own."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

READY = ".ready"
LONGEST_S = 1800.0
"""A build that takes longer is given up: a download hangs."""
WORDS = 600
WHEELS_ONLY = ("--no-build",)
"""Without it a source distribution's build script would run, which nobody looked at."""


class UvMissing(Exception):
    """There is no uv beside this interpreter, nor on the path."""


class UvRefused(Exception):
    """What uv said when it failed, in one line. `unsolvable`: the requirements cannot be met."""

    def __init__(self, words: str, unsolvable: bool = False) -> None:
        super().__init__(words)
        self.unsolvable = unsolvable


@dataclass(frozen=True)
class Uv:
    """How uv is run. `folder`: whose uv.toml counts; `options` go to resolving and installing; `variables`: the
    environment, whose UV_* say where packages come from.
    """

    folder: Path
    options: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def resolve(self, requirements: Iterable[str], python: str, *, hashes: bool = False) -> str:
        """A lock: every package that these need on a Python version, pinned, with the digests of its files if asked.

        Raises UvMissing, UvRefused.
        """
        command = ["pip", "compile", "--quiet", "--no-header", "--no-annotate", *self.options]
        command += ["--generate-hashes"] if hashes else []
        return self._run([*command, "--python-version", python, "-"], "\n".join(requirements))

    def build(self, place: Path, python: str, lock: str, linked: Mapping[str, Path]) -> str:
        """The interpreter of the environment at `place`, which is made of the lock unless it is there.

        linked: packages by name that are linked in from their folders. One process builds; another waits, and finds
        it built. Raises UvMissing, UvRefused.
        """
        place = place.absolute()  # uv is run in another folder
        interpreter = place / "bin" / "python"
        if not (place / READY).exists():
            with _alone(place):
                if not (place / READY).exists():
                    self._make(place, python, interpreter, lock)
                    (packages,) = place.glob("lib/python*/site-packages")
                    for name, folder in linked.items():
                        (packages / name).symlink_to(folder, target_is_directory=True)
                    (place / READY).touch()
        return str(interpreter)

    def _make(self, place: Path, python: str, interpreter: Path, lock: str) -> None:
        shutil.rmtree(place, ignore_errors=True)
        self._run(["venv", "--quiet", "--python", python, str(place)], "")
        sync = ["pip", "sync", "--quiet", "--allow-empty-requirements", *self.options, "--python", str(interpreter)]
        self._run([*sync, "-"], lock)

    def _run(self, arguments: list[str], given: str) -> str:
        """What uv printed."""
        kept = {key: value for key, value in self.variables.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
        try:
            done = subprocess.run(
                [_program(), *arguments],
                input=given,
                capture_output=True,
                text=True,
                cwd=self.folder,
                env=kept,
                check=False,
                timeout=LONGEST_S,
            )
        except subprocess.TimeoutExpired:
            raise UvRefused(f"uv took longer than {LONGEST_S:.0f} s") from None
        if done.returncode != 0:
            words = " ".join(done.stderr.split()) or f"uv ended with exit code {done.returncode}"
            raise UvRefused(words[:WORDS], "No solution found" in words)
        return done.stdout


@contextmanager
def _alone(place: Path) -> Generator[None]:
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{place}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _program() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise UvMissing
    return found
