"""The step cache: results by key, outputs by content."""

import fcntl
import hashlib
import json
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.build.pipelines import serializers
from modelyard.build.pipelines.nodes import Stored
from modelyard.domain.errors import Unavailable
from modelyard.kit.hashing import digest_file

SMALL = 4096
"""Bytes of JSON up to which a value is carried in the step's record instead of a file of its own."""
WORTH_SYNC_S = 1.0
"""A step that took longer is written through to the disk, so that a power cut does not cost it."""
LARGE = 64 << 20
"""Bytes of an output that goes to the disk at once, while its digest is taken."""
CONTAINERS = ("list", "tuple", "dict", "named", "data")


class Result(NamedTuple):
    """What a step left: its outputs, what it logged, how long it took and what it used."""

    outputs: tuple[Stored, ...]
    metrics: dict[str, float]
    params: dict[str, str]
    seconds: float
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    datasets: tuple[dict[str, Any], ...] = ()


class Cache:
    """Files under `root`: `steps/<key>.json` point at `objects/<digest>`."""

    def __init__(self, root: Path) -> None:
        self._steps, self._objects, self._locks = root / "steps", root / "objects", root / "locks"
        self._checked: set[str] = set()
        self._seconds: dict[str, float] | None = None
        self._changed = False
        try:
            for folder in (self._steps, self._objects, self._locks):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"The step cache {root} cannot be written: {error.strerror}.",
                remedy="Free space or change its rights, or set MODELYARD_HOME to another folder.",
            ) from error

    def find(self, key: str) -> Result | None:
        """The result under a key, if its outputs are all there; a torn record is none."""
        try:
            held = json.loads((self._steps / f"{key}.json").read_bytes())
            outputs = tuple(_decode(output) for output in held[0])
            result = Result(outputs, *held[1:6], datasets=tuple(held[6]))
        except (FileNotFoundError, ValueError, TypeError, IndexError, KeyError):
            return None
        return result if all(self._is_there(output) for output in outputs) else None

    def _is_there(self, stored: Stored) -> bool:
        if stored.format in CONTAINERS:
            return all(self._is_there(part) for _, part in stored.parts)
        if stored.text is not None:
            return True
        try:
            return os.stat(self._objects / stored.digest).st_size == stored.size
        except FileNotFoundError:
            return False

    def put(self, key: str, step: str, result: Result) -> None:
        """Point the key at a result; written last, so that a key never points at what is not there."""
        record = json.dumps([[_encode(output) for output in result.outputs], *result[1:]]).encode()
        if result.seconds > WORTH_SYNC_S:
            for output in result.outputs:
                self._sync(output)
        self._write(self._steps / f"{key}.json", record, result.seconds > WORTH_SYNC_S)
        self._durations()[step] = round(result.seconds, 4)
        self._changed = True

    def last_seconds(self, step: str) -> float | None:
        """How long the step took when it last ran here; None when it never did."""
        return self._durations().get(step)

    def flush(self) -> None:
        """Write down how long steps took."""
        if self._changed:
            self._write(self._steps / "durations.json", json.dumps(self._durations()).encode(), False)
            self._changed = False

    def _durations(self) -> dict[str, float]:
        if self._seconds is None:
            try:
                self._seconds = json.loads((self._steps / "durations.json").read_bytes())
            except (FileNotFoundError, ValueError):
                self._seconds = {}
        assert self._seconds is not None, "just read"
        return self._seconds

    def save(self, value: Any) -> Stored:
        """Write a value. Raises Invalid when no serializer takes it, Unavailable when the disk refuses."""
        if serializers.is_plain(value):
            text = json.dumps(value, allow_nan=True)
            if len(text) <= SMALL:
                return Stored(hashlib.sha256(text.encode()).hexdigest(), "json", len(text), text)
        else:
            parts = _parts(value)
            if parts is not None:
                kind, items = parts
                saved = tuple((name, self.save(item)) for name, item in items)
                return container(kind[0], saved, kind[1])
        return self._save_file(value)

    def _save_file(self, value: Any) -> Stored:
        serializer = serializers.for_value(value)
        temporary = self._objects / f".{os.getpid()}-{os.urandom(8).hex()}"
        try:
            serializer.save(value, temporary)
            with temporary.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                with _written_through(stream.fileno()) if size >= LARGE else nullcontext():
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
            os.replace(temporary, self._objects / digest)
        except OSError as error:
            raise Unavailable(
                f"A step's output cannot be written: {error.strerror or error}.", remedy="Free space, then run again."
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        self._checked.add(digest)
        return Stored(digest, serializer.name, size)

    def load(self, stored: Stored) -> Any:
        """The value of an output, as new. Raises Unavailable when its file was damaged, and removes it."""
        if stored.format in CONTAINERS:
            return _assemble(stored, [(name, self.load(part)) for name, part in stored.parts])
        if stored.text is not None:
            return json.loads(stored.text)
        path = self._objects / stored.digest
        self._check(path, stored)
        return serializers.named(stored.format).load(path)

    def trust(self, digests: Iterable[str]) -> None:
        """Take outputs as undamaged without reading them: this run has just written them and taken their digests."""
        self._checked.update(digests)

    def _check(self, path: Path, stored: Stored) -> None:
        if stored.digest in self._checked:
            return
        try:
            whole = digest_file(path) == stored.digest
        except FileNotFoundError:
            whole = False
        if not whole:
            path.unlink(missing_ok=True)
            raise Unavailable(
                f"The cached output {stored.digest[:12]} is damaged and was removed.",
                remedy="Run again: the step that made it runs anew.",
            )
        self._checked.add(stored.digest)

    def path(self, stored: Stored) -> Path:
        """The file of an output that is not a container and not carried in its record."""
        return self._objects / stored.digest

    def _sync(self, stored: Stored) -> None:
        for _, part in stored.parts:
            self._sync(part)
        if stored.format not in CONTAINERS and stored.text is None:
            with self.path(stored).open("rb") as stream:
                os.fsync(stream.fileno())

    def _write(self, path: Path, data: bytes, durable: bool) -> None:
        temporary = f"{path}.{os.getpid()}-{os.urandom(4).hex()}"
        try:
            with open(temporary, "wb") as stream:
                stream.write(data)
                stream.flush()
                if durable:
                    os.fsync(stream.fileno())
            os.replace(temporary, path)
        except OSError as error:
            Path(temporary).unlink(missing_ok=True)
            raise Unavailable(
                f"The step cache cannot be written: {error.strerror or error}.", remedy="Free space, then run again."
            ) from error

    def try_lease(self, key: str) -> "Lease | None":
        """The lease of a key, or None while another runner holds it.

        The lock belongs to the open file: the system frees it when its holder dies.
        """
        handle = os.open(self._locks / hashlib.sha256(key.encode()).hexdigest()[:16], os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return Lease(handle)

    @contextmanager
    def lease(self, key: str) -> Generator[None, None, None]:
        """Hold the key, waiting for whoever holds it."""
        with (self._locks / hashlib.sha256(key.encode()).hexdigest()[:16]).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Lease:
    """A held key: another runner that wants the same step waits, and then finds its result."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def release(self) -> None:
        os.close(self._handle)


@contextmanager
def _written_through(handle: int) -> Generator[None, None, None]:
    """Bring a file to the disk meanwhile. Raises OSError when the disk refuses it."""
    from concurrent.futures import ThreadPoolExecutor  # late: few outputs are that large

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(os.fdatasync, handle)
        yield
        writing.result()


def _parts(value: Any) -> tuple[tuple[str, Any], list[tuple[str, Any]]] | None:
    """((format, class name), named items) of a container whose items are saved one by one; None for another value."""
    if type(value) in (list, tuple):
        return (type(value).__name__, None), [(str(index), item) for index, item in enumerate(value)]
    if isinstance(value, dict) and type(value) is dict and all(type(key) is str for key in value):
        return ("dict", None), list(value.items())
    kind = type(value)
    if isinstance(value, tuple) and hasattr(kind, "_fields") and "<locals>" not in kind.__qualname__:
        return ("named", serializers.class_name(kind)), list(zip(kind._fields, value, strict=True))  # pyright: ignore
    if serializers.is_dataclass(value):
        return ("data", serializers.class_name(kind)), list(serializers.fields_of(value).items())
    return None


def large_in(stored: Stored) -> Iterator[str]:
    """The digests of the large files in an output."""
    if stored.size >= LARGE:
        yield stored.digest
    for _, part in stored.parts:
        yield from large_in(part)


def _assemble(stored: Stored, items: list[tuple[str, Any]]) -> Any:
    if stored.format == "list":
        return [item for _, item in items]
    if stored.format == "tuple":
        return tuple(item for _, item in items)
    if stored.format == "dict":
        return dict(items)
    return serializers.make(serializers.class_named(stored.text or ""), dict(items))


def container(form: str, parts: tuple[tuple[str, Stored], ...], kind: str | None = None) -> Stored:
    """A stored container of stored values; `kind` names the class of a dataclass or named tuple."""
    text = repr((form, kind, [(name, part.digest, part.format) for name, part in parts])).encode()
    return Stored(hashlib.sha256(text).hexdigest(), form, text=kind, parts=parts)


def _encode(stored: Stored) -> Any:
    return [*stored[:4], [[name, _encode(part)] for name, part in stored.parts]]


def _decode(held: Any) -> Stored:
    digest, form, size, value, parts = held
    return Stored(digest, form, size, value, tuple((name, _decode(part)) for name, part in parts))
