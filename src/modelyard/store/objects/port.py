"""What an artifact store does: blobs by the SHA-256 of their content, a bin for what is no longer referenced."""

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modelyard.domain.errors import NotFound


@dataclass(frozen=True)
class Blob:
    """Stored content: its SHA-256 digest (hex) and its size in bytes."""

    digest: str
    size: int


Chunks = AsyncIterator[bytes] | AsyncIterator[bytes | memoryview]
"""Content on its way in; a memoryview is valid until the next is asked for."""


@dataclass(frozen=True)
class Kept:
    """A blob as the collector lists it: the bytes it takes there, and `since` when it is where it is, in ms."""

    digest: str
    size: int
    since: int


class Objects(Protocol):
    """Blobs on local disk or in an object store; one contract suite runs over every adapter.

    Writing and reading stream in constant memory. A blob is whole or absent. `discard` moves a blob to the bin, from
    which a read brings it back: so the collector cannot lose what an upload refers to at the same moment.
    """

    async def put(self, chunks: Chunks, most: int | None = None) -> Blob:
        """Store a stream. Raises TooLarge beyond `most` bytes, Unavailable when the store refuses."""
        ...

    def put_chunks(self, chunks: Iterable[bytes]) -> Blob: ...

    def put_file(self, file: Path) -> Blob: ...

    def local(self, digest: str) -> Path | None:
        """The file that holds a blob; None where blobs are not files of this machine. Raises NotFound."""
        ...

    def stream(self, digest: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """A blob's bytes from `start` up to `end`, not included. Raises NotFound before the first chunk."""
        ...

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """As `stream`, for plain code. Raises NotFound before the first chunk."""
        ...

    def fetch(self, digest: str, target: Path) -> None:
        """Write a blob into a new file and check its digest. Raises NotFound, and Conflict for damaged content."""
        ...

    def kept(self) -> Iterator[Kept]:
        """Every blob."""
        ...

    def discard(self, digest: str) -> bool:
        """Move a blob to the bin; whether it was there."""
        ...

    def binned(self) -> Iterator[Kept]:
        """Every blob in the bin."""
        ...

    def restore(self, digest: str) -> bool:
        """Bring a blob back from the bin; whether it was there."""
        ...

    def destroy(self, digest: str) -> None:
        """Free a blob that is in the bin."""
        ...


def check_digest(digest: str) -> str:
    """The digest itself. Raises NotFound for what is none, so that no text of a client's becomes a path."""
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise NotFound(f"{digest[:80]!r} is not a digest.")
    return digest


def missing(digest: str) -> NotFound:
    return NotFound(
        f"There is no stored content {digest[:16]}.",
        remedy="The artifact store lacks what the database refers to: restore it from a backup.",
    )
