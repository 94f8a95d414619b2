"""Content on its way into the store: written to a temporary file while it is hashed."""

import hashlib
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from modelyard.domain.errors import TooLarge, Unavailable
from modelyard.kit.ids import new_id
from modelyard.store.objects.port import Blob


class Spool:
    """A temporary file in `folder`, gone after the `with` block unless it was renamed."""

    def __init__(self, folder: Path, most: int | None = None) -> None:
        self.file = folder / new_id()
        self._most = most
        self._hash = hashlib.sha256()
        self._size = 0
        try:
            self._stream = self.file.open("xb")
        except OSError as error:
            raise refused(error) from error

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self.file.unlink(missing_ok=True)

    async def take(self, chunks: AsyncIterator[bytes]) -> None:
        """Write a stream. Raises TooLarge, or Unavailable when the disk refuses."""
        async for chunk in chunks:
            self._add(chunk)

    def take_all(self, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            self._add(chunk)

    def sealed(self, *, durable: bool) -> Blob:
        """What was written, flushed to the file and (`durable`) to the disk."""
        try:
            self._stream.flush()
            if durable:
                os.fsync(self._stream.fileno())
        except OSError as error:
            raise refused(error) from error
        return Blob(self._hash.hexdigest(), self._size)

    def _add(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._most is not None and self._size > self._most:
            raise TooLarge(
                f"The content is larger than {self._most} bytes.", remedy="Store less, or raise the limit."
            )
        self._hash.update(chunk)
        try:
            self._stream.write(chunk)
        except OSError as error:
            raise refused(error) from error


def refused(error: OSError) -> Unavailable:
    return Unavailable(
        f"The artifact store cannot write: {error.strerror}.",
        remedy="Free space or change the folder's rights, then retry.",
    )
