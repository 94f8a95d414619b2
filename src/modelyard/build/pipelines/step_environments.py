"""Python environments of their own for steps: declared in modelyard.toml, locked, and built by uv when first needed.

An environment is its lock: `[step_environments.NAME]` lists requirements, which are locked once into a file of the
project, and every machine builds the same packages from it. modelyard itself is linked in, so that both sides of a
step speak alike; what a step passes on crosses as a file of a typed format.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import modelyard
from modelyard.domain.errors import ConfigError, Invalid, MissingExtra, Unavailable
from modelyard.kit.files import atomic_write

FOLDER, READY = "environments", ".ready"
STAMP = "# modelyard: locked from "


class StepEnvironments:
    """The environments that a project declares for its steps; those that are built live in `home`."""

    def __init__(self, project: Path, home: Path) -> None:
        self._project, self._folder = project, home / FOLDER
        self._declared: dict[str, Any] | None = None
        self._locks: dict[str, str] = {}

    def digest(self, name: str) -> str:
        """What the environment consists of, as part of a step's cache key. Raises ConfigError, Unavailable."""
        return hashlib.sha256(f"{self._version(name)}\n{self._lock(name)}".encode()).hexdigest()[:32]

    def python(self, name: str) -> str:
        """The environment's interpreter; it is built unless it is there. Raises ConfigError, Unavailable."""
        place = self._place(name)
        if not (place / READY).exists():
            with self._alone(place):
                if not (place / READY).exists():
                    self._build(name, place)
        return str(place / "bin" / "python")

    def is_built(self, name: str) -> bool:
        return (self._place(name) / READY).exists()

    def _place(self, name: str) -> Path:
        return self._folder / f"{name}-{self.digest(name)[:16]}"

    def _of(self, name: str) -> Any:
        if self._declared is None:
            from modelyard.domain.project import parse_project  # late: few pipelines declare one

            file = self._project / "modelyard.toml"
            text = file.read_text() if file.exists() else ""
            self._declared = dict(parse_project(text, str(file)).step_environments) if text else {}
        if name not in self._declared:
            known = ", ".join(sorted(self._declared)) or "none yet"
            raise ConfigError(
                f"There is no step environment {name!r} in modelyard.toml.",
                remedy=f'Declare it: [step_environments.{name}] requirements = ["..."]. Declared: {known}.',
            )
        return self._declared[name]

    def _version(self, name: str) -> str:
        """The Python version that is asked for; the runner's own by default."""
        return self._of(name).python or f"{sys.version_info.major}.{sys.version_info.minor}"

    def _lock(self, name: str) -> str:
        """The pinned packages: the lock file's text, written first when it is missing or the requirements changed."""
        if name not in self._locks:
            declared = self._of(name)
            file = self._project / (declared.lock or f"{name}.lock.txt")
            wanted = "\n".join([self._version(name), *declared.requirements])
            stamp = STAMP + hashlib.sha256(wanted.encode()).hexdigest()[:16]
            text = file.read_text() if file.exists() else ""
            if declared.requirements and not text.startswith(stamp):
                text = f"{stamp}\n{self._resolve(name, declared.requirements)}"
                atomic_write(file, text.encode(), durable=False)
            if not text:
                raise ConfigError(
                    f"The step environment {name!r} has neither requirements nor a file {file.name}.",
                    remedy="Give it requirements, or a lock: uv pip compile requirements.in -o requirements.lock.txt",
                )
            self._locks[name] = text
        return self._locks[name]

    def _resolve(self, name: str, requirements: list[str]) -> str:
        command = ["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python-version"]
        return _uv(name, [*command, self._version(name), "-"], "\n".join(requirements), self._project)

    def _build(self, name: str, place: Path) -> None:
        shutil.rmtree(place, ignore_errors=True)
        _uv(name, ["venv", "--quiet", "--python", self._version(name), str(place)], "", self._project)
        python = str(place / "bin" / "python")
        _uv(name, ["pip", "sync", "--quiet", "--python", python, "-"], self._lock(name), self._project)
        (packages,) = place.glob("lib/python*/site-packages")
        (packages / "modelyard").symlink_to(Path(modelyard.__file__).parent, target_is_directory=True)
        (place / READY).touch()

    @contextmanager
    def _alone(self, place: Path) -> Generator[None]:
        """One process builds; another one waits, and finds it built."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(f"{place}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _uv(name: str, arguments: list[str], given: str, folder: Path) -> str:
    """What uv printed. Raises MissingExtra without uv, Unavailable with its words when it refuses."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise MissingExtra("uv", "environments", "A step environment")
    variables = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        [uv, *arguments], input=given, capture_output=True, text=True, cwd=folder, env=variables, check=False
    )
    if done.returncode != 0:
        words = " ".join(done.stderr.split()) or f"uv ended with exit code {done.returncode}"
        if "No solution found" in words:
            raise Invalid(
                f"The requirements of the step environment {name!r} cannot be met: {words[:600]}",
                remedy="Change them in modelyard.toml.",
            )
        raise Unavailable(f"The step environment {name!r} cannot be built: {words[:600]}", remedy="Then run again.")
    return done.stdout
