"""Collecting what nothing refers to any more, safely beside uploads.

A blob without a reference goes to the bin; after a while, if there is still none, it is freed. A read of a binned
blob brings it back, so an upload that names a blob at the very moment when it is binned loses nothing.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, select, union

from modelyard.kit.clock import now_ms
from modelyard.store.database import Store
from modelyard.store.objects.port import Objects
from modelyard.store.tables.registry import version_files
from modelyard.store.tables.tracking import artifacts, upload_parts

GRACE_MS = 24 * 3_600_000
"""How long a blob is left alone: after its upload (its row may not be written yet), and again in the bin."""


@dataclass(frozen=True)
class Collection:
    """What one collection did; `lost` are digests that the database refers to and the store does not have."""

    kept: int
    binned: int
    freed: int
    freed_bytes: int
    restored: int
    lost: tuple[str, ...]


def collect(store: Store, objects: Objects, grace_ms: int = GRACE_MS, now: int | None = None) -> Collection:
    """Bin blobs without a reference that are older than the grace, free what lay as long in the bin."""
    now = now_ms() if now is None else now
    wanted = store.read_now(referenced)
    present, binned = set[str](), 0
    for blob in objects.kept():
        if blob.digest in wanted or now - blob.since < grace_ms:
            present.add(blob.digest)
        elif objects.discard(blob.digest):
            binned += 1
    wanted = store.read_now(referenced)  # again: rows were written while the store was listed
    freed = freed_bytes = restored = 0
    for blob in objects.binned():
        if blob.digest in wanted:
            restored += objects.restore(blob.digest)
            present.add(blob.digest)
        elif now - blob.since >= grace_ms:
            objects.destroy(blob.digest)
            freed, freed_bytes = freed + 1, freed_bytes + blob.size
    lost = tuple(sorted(digest for digest in wanted - present if not objects.restore(digest)))
    return Collection(len(present), binned, freed, freed_bytes, restored, lost)


def referenced(conn: Connection) -> set[str]:
    """The digest of every blob that the database refers to."""
    query = union(*(select(table.c.digest) for table in (artifacts, version_files, upload_parts)))
    return set(conn.execute(query).scalars())
