"""Artifacts on local disk, addressed by the SHA-256 of their content."""

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from modelyard.domain.errors import NotFound, TooLarge, Unavailable
from modelyard.kit.files import sync_folder
from modelyard.kit.hashing import CHUNK
from modelyard.kit.ids import new_id


@dataclass(frozen=True)
class Blob:
    """Stored content: its SHA-256 digest (hex) and its size in bytes."""

    digest: str
    size: int


class LocalObjects:
    """Blobs under `root/ab/cd...`: written to a temporary name while hashed, synced, renamed.

    No path of a client's choosing ever reaches the file system.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)

    async def put(self, chunks: AsyncIterator[bytes], most: int | None = None) -> Blob:
        """Store a stream in constant memory.

        Raises TooLarge beyond `most` bytes, Unavailable when the disk refuses; nothing half-written is left.
        """
        writing = self._begin()
        try:
            async for chunk in chunks:
                writing.add(chunk, most)
            return writing.finish(self._path)
        except OSError as error:
            raise _refused(error) from error
        finally:
            writing.discard()

    def put_chunks(self, chunks: Iterable[bytes]) -> Blob:
        """Store an iterable of chunks; the same promises as `put`."""
        writing = self._begin()
        try:
            for chunk in chunks:
                writing.add(chunk, None)
            return writing.finish(self._path)
        except OSError as error:
            raise _refused(error) from error
        finally:
            writing.discard()

    def put_file(self, file: Path) -> Blob:
        """Store a file's bytes."""
        with file.open("rb") as stream:
            return self.put_chunks(iter(lambda: stream.read(CHUNK), b""))

    def open(self, digest: str) -> Path:
        """The file that holds a blob. Raises NotFound."""
        path = self._path(digest)
        if not path.exists():
            raise NotFound(
                f"There is no stored content {digest[:16]}.", remedy="The yard's objects folder lacks a file."
            )
        return path

    def delete(self, digest: str) -> bool:
        """Free a blob; whether it was there."""
        path = self._path(digest)
        if not path.exists():
            return False
        path.unlink()
        return True

    def _begin(self) -> "_Writing":
        try:
            return _Writing(self._incoming / new_id())
        except OSError as error:
            raise _refused(error) from error

    def _path(self, digest: str) -> Path:
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise NotFound(f"{digest[:80]!r} is not a digest.")
        return self._root / digest[:2] / digest


class _Writing:
    """A blob on its way: hashed as it is written."""

    def __init__(self, temporary: Path) -> None:
        self._temporary = temporary
        self._stream = temporary.open("xb")
        self._hash = hashlib.sha256()
        self._size = 0

    def add(self, chunk: bytes, most: int | None) -> None:
        self._size += len(chunk)
        if most is not None and self._size > most:
            raise TooLarge(f"The content is larger than {most} bytes.", remedy="Store less, or raise the limit.")
        self._hash.update(chunk)
        self._stream.write(chunk)

    def finish(self, place: Callable[[str], Path]) -> Blob:
        digest = self._hash.hexdigest()
        target = place(digest)
        self._stream.flush()
        os.fsync(self._stream.fileno())
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            os.replace(self._temporary, target)
            sync_folder(target.parent)
        return Blob(digest, self._size)

    def discard(self) -> None:
        self._stream.close()
        self._temporary.unlink(missing_ok=True)


def _refused(error: OSError) -> Unavailable:
    return Unavailable(
        f"The artifact store cannot write: {error.strerror}.",
        remedy="Free space or change the folder's rights, then retry.",
    )
