"""Artifacts on local disk, addressed by the SHA-256 of their content."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

from modelyard.domain.errors import Conflict
from modelyard.kit.files import sync_folder
from modelyard.kit.hashing import CHUNK, digest_file
from modelyard.store.objects.port import Blob, Chunks, Kept, check_digest, missing
from modelyard.store.objects.sealing import HEADER, Keys, opened, opener_of
from modelyard.store.objects.spool import Spool, refused

__all__ = ["Blob", "LocalObjects"]


class LocalObjects:
    """Blobs under `root/ab/cd...`: written to a temporary name while hashed, synced, renamed.

    No path of a client's choosing ever reaches the file system.
    """

    def __init__(self, root: Path, keys: Keys | None = None) -> None:
        self._root, self._keys = root, keys
        self._incoming, self._bin = root / "incoming", root / "bin"
        for folder in (self._incoming, self._bin):
            folder.mkdir(parents=True, exist_ok=True)

    async def put(self, chunks: Chunks, most: int | None = None) -> Blob:
        with Spool(self._incoming, most, self._keys) as spool:
            await spool.take(chunks, durable=True)
            return await asyncio.to_thread(self._place, spool)  # a sync takes milliseconds, or seconds

    def put_chunks(self, chunks: Iterable[bytes]) -> Blob:
        with Spool(self._incoming, keys=self._keys) as spool:
            spool.take_all(chunks)
            return self._place(spool)

    def put_file(self, file: Path) -> Blob:
        with file.open("rb") as stream:
            return self.put_chunks(iter(lambda: stream.read(CHUNK), b""))

    def local(self, digest: str) -> Path | None:
        file = self.open(digest)
        return file if self._keys is None else None

    def open(self, digest: str) -> Path:
        """The file that holds a blob. Raises NotFound."""
        path = self._path(digest)
        if not path.exists() and not self.restore(digest):
            raise missing(digest)
        return path

    async def stream(self, digest: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        for chunk in self.read(digest, start, end):
            yield chunk

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        with self.open(digest).open("rb") as stream:
            opener = opener_of(self._keys, stream.read(HEADER), start)
            stream.seek(start if opener is None else opener.offset)
            yield from opened(iter(lambda: stream.read(CHUNK), b""), opener, start, end)

    def fetch(self, digest: str, target: Path) -> None:
        """Write a blob into a new file; a copy in the kernel where it is not sealed, then checked."""
        file = self.local(digest)
        if file is not None:
            shutil.copyfile(file, target)
        else:
            with target.open("xb") as stream:
                stream.writelines(self.read(digest))
        if digest_file(target) != digest:
            target.unlink()
            raise Conflict(
                f"The stored content {digest[:16]} does not match its digest.", remedy="Restore it from a backup."
            )

    def kept(self) -> Iterator[Kept]:
        for folder in sorted(self._root.glob("[0-9a-f][0-9a-f]")):
            yield from _listed(folder)

    def discard(self, digest: str) -> bool:
        """Move a blob to the bin; its time there starts now."""
        path = self._path(digest)
        try:
            os.utime(path)
            os.replace(path, self._bin / digest)
        except FileNotFoundError:
            return False
        return True

    def binned(self) -> Iterator[Kept]:
        yield from _listed(self._bin)

    def restore(self, digest: str) -> bool:
        """Bring a blob back from the bin; whether it was there."""
        target = self._path(digest)
        target.parent.mkdir(exist_ok=True)
        try:
            os.replace(self._bin / digest, target)
        except FileNotFoundError:
            return target.exists()
        return True

    def destroy(self, digest: str) -> None:
        (self._bin / check_digest(digest)).unlink(missing_ok=True)

    def _place(self, spool: Spool) -> Blob:
        blob = spool.sealed(durable=True)
        target = self._path(blob.digest)
        try:
            if not target.exists() or target.stat().st_size != spool.file.stat().st_size:
                target.parent.mkdir(exist_ok=True)
                os.replace(spool.file, target)
                sync_folder(target.parent)
        except OSError as error:
            raise refused(error) from error
        return blob

    def _path(self, digest: str) -> Path:
        return self._root / check_digest(digest)[:2] / digest


def _listed(folder: Path) -> Iterator[Kept]:
    for file in sorted(folder.iterdir()):
        try:
            found = file.stat()
        except FileNotFoundError:
            continue  # moved while we listed
        yield Kept(file.name, found.st_size, found.st_mtime_ns // 1_000_000)
