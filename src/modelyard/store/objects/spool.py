"""Content on its way into the store: written to a temporary file while it is hashed."""

import asyncio
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from modelyard.domain.errors import TooLarge, Unavailable
from modelyard.kit.ids import new_id
from modelyard.store.objects.port import Blob, Chunks
from modelyard.store.objects.sealing import Keys

SYNC_EVERY = 8 << 20
LARGE = 256 << 10
"""Bytes of a chunk that takes longer to hash than to hand to another thread."""


class Spool:
    """A temporary file in `folder`, gone after the `with` block unless it was renamed; sealed where there are keys.

    Digest and size are the content's, not the file's.
    """

    def __init__(self, folder: Path, most: int | None = None, keys: Keys | None = None) -> None:
        self.file = folder / new_id()
        self._most = most
        self._seal = None if keys is None else keys.seal()
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

    async def take(self, chunks: Chunks, *, durable: bool) -> None:
        """Write a stream. Raises TooLarge, or Unavailable when the disk refuses.

        Where it shall be `durable` the disk is set to work while the stream still comes: little is left for the end.
        """
        ahead, synced = None, 0
        try:
            async for chunk in chunks:
                if len(chunk) < LARGE:
                    self._add(chunk)
                else:
                    await asyncio.to_thread(self._add, chunk)
                if durable and self._size - synced >= SYNC_EVERY and (ahead is None or ahead.done()):
                    _check(ahead)
                    synced = self._size
                    ahead = asyncio.ensure_future(asyncio.to_thread(os.fdatasync, self._stream.fileno()))
        finally:
            if ahead is not None:
                await asyncio.wait([ahead])  # the file may not be closed under it
        _check(ahead)

    def take_all(self, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            self._add(chunk)

    def sealed(self, *, durable: bool) -> Blob:
        """What was written, flushed to the file and (`durable`) to the disk."""
        try:
            if self._seal is not None:
                self._stream.write(self._seal.end())
            self._stream.flush()
            if durable:
                os.fsync(self._stream.fileno())
        except OSError as error:
            raise refused(error) from error
        return Blob(self._hash.hexdigest(), self._size)

    def _add(self, chunk: bytes | memoryview) -> None:
        self._size += len(chunk)
        if self._most is not None and self._size > self._most:
            raise TooLarge(
                f"The content is larger than {self._most} bytes.", remedy="Store less, or raise the limit."
            )
        self._hash.update(chunk)
        try:
            self._stream.write(chunk if self._seal is None else self._seal.add(chunk))
        except OSError as error:
            raise refused(error) from error


def _check(ahead: "asyncio.Future[None] | None") -> None:
    """The kernel tells of a failed write once, to whichever sync asks first."""
    error = ahead.exception() if ahead is not None else None
    if error is not None:
        raise refused(error) if isinstance(error, OSError) else error


def refused(error: OSError) -> Unavailable:
    return Unavailable(
        f"The artifact store cannot write: {error.strerror}.",
        remedy="Free space or change the folder's rights, then retry.",
    )
