"""Python environments of their own for steps: declared in modelyard.toml, locked, and built by uv when first needed.

An environment is its lock: `[step_environments.NAME]` lists requirements, which are locked once into a file of the
project, and every machine builds the same packages from it. modelyard itself is linked in, so that both sides of a
step speak alike; what a step passes on crosses as a file of a typed format.
"""

import hashlib
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import modelyard
from modelyard.domain.errors import ConfigError, Invalid, MissingExtra, Unavailable
from modelyard.kit.files import atomic_write
from modelyard.kit.uv import READY, Uv, UvMissing, UvRefused

FOLDER = "environments"
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
        linked = {"modelyard": Path(modelyard.__file__).parent}
        with _told(name):
            return Uv(self._project).build(self._place(name), self._version(name), self._lock(name), linked)

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
        with _told(name):
            return Uv(self._project).resolve(requirements, self._version(name))


@contextmanager
def _told(name: str) -> Generator[None]:
    """What uv refuses, in terms of the project. Raises MissingExtra, Invalid, Unavailable."""
    try:
        yield
    except UvMissing as error:
        raise MissingExtra("uv", "environments", "A step environment") from error
    except UvRefused as error:
        if error.unsolvable:
            raise Invalid(
                f"The requirements of the step environment {name!r} cannot be met: {error}",
                remedy="Change them in modelyard.toml.",
            ) from error
        raise Unavailable(
            f"The step environment {name!r} cannot be built: {error}", remedy="Then run again."
        ) from error
