"""The step cache: results by key, outputs by content."""

import fcntl
import hashlib
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelyard.build.pipelines import serializers
from modelyard.domain.errors import Unavailable
from modelyard.kit.files import atomic_write
from modelyard.kit.hashing import digest_file
from modelyard.kit.ids import new_id


@dataclass(frozen=True)
class Stored:
    """An output on disk: SHA-256 of its bytes, and its format."""

    digest: str
    format: str


@dataclass(frozen=True)
class Result:
    """What a step left: its outputs, what it logged, how long it took."""

    outputs: tuple[Stored, ...]
    metrics: dict[str, float]
    params: dict[str, str]
    seconds: float


class Cache:
    """Files under `root`: `steps/<key>.json` point at `objects/<digest>`."""

    def __init__(self, root: Path) -> None:
        self._steps, self._objects, self._locks = root / "steps", root / "objects", root / "locks"
        try:
            for folder in (self._steps, self._objects, self._locks):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"The step cache {root} cannot be written: {error.strerror}.",
                remedy="Free space or change its rights, or set MODELYARD_HOME to another folder.",
            ) from error

    def find(self, key: str) -> Result | None:
        """The result under a key, if its outputs are all there."""
        try:
            held = json.loads((self._steps / f"{key}.json").read_text())
        except FileNotFoundError:
            return None
        outputs = tuple(Stored(**output) for output in held["outputs"])
        if not all((self._objects / output.digest).exists() for output in outputs):
            return None
        return Result(outputs, held["metrics"], held["params"], held["seconds"])

    def put(self, key: str, step: str, result: Result) -> None:
        """Point the key at a result; written last, so that a key never points at what is not there."""
        atomic_write(self._steps / f"{key}.json", json.dumps(asdict(result)).encode())
        atomic_write(self._steps / f"{step}.seconds", f"{result.seconds:.3f}".encode(), durable=False)

    def last_seconds(self, step: str) -> float | None:
        """How long the step took when it last ran here; None when it never did."""
        try:
            return float((self._steps / f"{step}.seconds").read_text())
        except FileNotFoundError:
            return None

    def save(self, value: Any) -> Stored:
        """Write a value. Raises Invalid when no serializer takes it, Unavailable when the disk refuses."""
        serializer = serializers.for_value(value)
        temporary = self._objects / f".{new_id()}"
        try:
            serializer.save(value, temporary)
            digest = digest_file(temporary)
            target = self._objects / digest
            if not target.exists():
                with temporary.open("rb") as stream:
                    os.fsync(stream.fileno())
                os.replace(temporary, target)
        except OSError as error:
            raise Unavailable(
                f"A step's output cannot be written: {error.strerror or error}.", remedy="Free space, then run again."
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        return Stored(digest, serializer.name)

    def load(self, stored: Stored) -> Any:
        """The value of an output."""
        return serializers.named(stored.format).load(self._objects / stored.digest)

    @contextmanager
    def lease(self, key: str) -> Generator[None, None, None]:
        """Hold the key: another runner that wants the same step waits, and then finds its result.

        The lock belongs to the open file: the system frees it when its holder dies.
        """
        with (self._locks / hashlib.sha256(key.encode()).hexdigest()[:16]).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
