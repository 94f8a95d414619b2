"""Artifacts in an S3-compatible store, through obstore."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

from modelyard.domain.errors import ConfigError, Conflict, Unavailable
from modelyard.kit.hashing import CHUNK
from modelyard.store.objects.bucket import open_bucket, words
from modelyard.store.objects.port import Blob, Chunks, Kept, check_digest, missing
from modelyard.store.objects.sealing import HEADER, Keys, opened, opener_of, sealed_size
from modelyard.store.objects.spool import Spool

PART = 8 << 20
"""Bytes of one part of a multipart upload; a smaller blob is one request."""


class S3Objects:
    """Blobs at `prefix/ab/cd...` of a bucket.

    What comes in is hashed into a file of `spool` first, because its name is its digest: then it is sent in parts. An
    upload that breaks off leaves nothing visible.
    """

    def __init__(self, bucket: str, prefix: str, spool: Path, keys: Keys | None = None) -> None:
        self._store = open_bucket(bucket, prefix or None, what="An artifact store in S3")
        import obstore  # late: only S3 needs it

        self._api: Any = obstore
        self._place_name = f"s3://{bucket}/{prefix}"
        self._spool, self._keys = spool, keys
        spool.mkdir(parents=True, exist_ok=True)

    def check(self) -> None:
        """Raises ConfigError when the bucket cannot be read."""
        try:
            next(iter(self._api.list(self._store, prefix="bin", chunk_size=1)), None)
        except self._errors as error:
            raise ConfigError(
                f"The artifact store {self._place_name} cannot be used: {words(error)}.",
                remedy="Check the bucket and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL.",
            ) from error

    async def put(self, chunks: Chunks, most: int | None = None) -> Blob:
        with Spool(self._spool, most, self._keys) as spool:
            await spool.take(chunks, durable=False)
            blob = spool.sealed(durable=False)
            try:
                if not await asyncio.to_thread(self._holds, blob):
                    await self._api.put_async(self._store, _key(blob.digest), spool.file, **_parts(blob))
            except self._errors as error:
                raise self._refused(error) from error
            return blob

    def put_chunks(self, chunks: Iterable[bytes]) -> Blob:
        with Spool(self._spool, keys=self._keys) as spool:
            spool.take_all(chunks)
            blob = spool.sealed(durable=False)
            try:
                if not self._holds(blob):
                    self._api.put(self._store, _key(blob.digest), spool.file, **_parts(blob))
            except self._errors as error:
                raise self._refused(error) from error
            return blob

    def put_file(self, file: Path) -> Blob:
        with file.open("rb") as stream:
            return self.put_chunks(iter(lambda: stream.read(CHUNK), b""))

    def local(self, digest: str) -> None:
        check_digest(digest)

    async def stream(self, digest: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        pieces = self.read(digest, start, end)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        key = _key(digest)
        try:
            opener = None
            if self._keys is not None:
                header = b"".join(self._got(digest, key, 0, HEADER))
                opener = opener_of(self._keys, header, start)
            if opener is None:
                yield from self._got(digest, key, start, end)
            else:
                yield from opened(self._got(digest, key, opener.offset, None), opener, start, end)
        except self._errors as error:
            raise self._refused(error) from error

    def _got(self, digest: str, key: str, start: int, end: int | None) -> Iterator[bytes]:
        """The stored bytes from `start` up to `end`."""
        options = {} if not start and end is None else {"range": {"offset": start} if end is None else (start, end)}
        try:
            found = self._api.get(self._store, key, options=options)
        except FileNotFoundError:
            if not self.restore(digest):
                raise missing(digest) from None
            found = self._api.get(self._store, key, options=options)
        for chunk in found.stream(min_chunk_size=CHUNK):
            yield bytes(chunk)

    def fetch(self, digest: str, target: Path) -> None:
        """Write a blob into a new file, hashed as it comes."""
        found = hashlib.sha256()
        with target.open("xb") as stream:
            for chunk in self.read(digest):
                found.update(chunk)
                stream.write(chunk)
        if found.hexdigest() != digest:
            target.unlink()
            raise Conflict(
                f"The stored content {digest[:16]} does not match its digest.", remedy="Restore it from a backup."
            )

    def kept(self) -> Iterator[Kept]:
        for item in self._listed(None):
            folder, _, name = item["path"].rpartition("/")
            if len(folder) == 2:
                yield _kept(name, item)

    def discard(self, digest: str) -> bool:
        return self._move(_key(digest), f"bin/{digest}")

    def binned(self) -> Iterator[Kept]:
        for item in self._listed("bin"):
            yield _kept(item["path"].rpartition("/")[2], item)

    def restore(self, digest: str) -> bool:
        return self._move(f"bin/{check_digest(digest)}", _key(digest)) or self._size(_key(digest)) is not None

    def destroy(self, digest: str) -> None:
        try:
            self._api.delete(self._store, f"bin/{check_digest(digest)}")
        except FileNotFoundError:
            pass
        except self._errors as error:
            raise self._refused(error) from error

    def _move(self, source: str, target: str) -> bool:
        """Copy, then delete: at every moment one of the two is there."""
        try:
            self._api.copy(self._store, source, target)
            self._api.delete(self._store, source)
        except FileNotFoundError:
            return False
        except self._errors as error:
            raise self._refused(error) from error
        return True

    def _holds(self, blob: Blob) -> bool:
        """Whether the content is there already, sealed if there is a key."""
        stored = blob.size if self._keys is None else sealed_size(blob.size)
        return self._size(_key(blob.digest)) == stored

    def _size(self, key: str) -> int | None:
        try:
            return self._api.head(self._store, key)["size"]
        except FileNotFoundError:
            return None

    def _listed(self, prefix: str | None) -> Iterator[dict[str, Any]]:
        try:
            for page in self._api.list(self._store, prefix=prefix, chunk_size=1000):
                yield from page
        except self._errors as error:
            raise self._refused(error) from error

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        from obstore import exceptions  # late: see __init__

        return (exceptions.BaseError, OSError)

    def _refused(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"The artifact store {self._place_name} does not answer: {words(error)}.",
            remedy="Check the bucket, its rights and the network, then retry.",
        )


def _key(digest: str) -> str:
    return f"{check_digest(digest)[:2]}/{digest}"


def _parts(blob: Blob) -> dict[str, Any]:
    return {"use_multipart": blob.size > PART, "chunk_size": PART, "max_concurrency": 4}


def _kept(digest: str, item: dict[str, Any]) -> Kept:
    return Kept(digest, item["size"], int(item["last_modified"].timestamp() * 1000))
