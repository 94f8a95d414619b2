"""Collecting unreferenced blobs loses nothing that is, or is about to be, referred to."""

from pathlib import Path

import pytest
from sqlalchemy import Connection

from modelyard.build.tracking import artifacts
from modelyard.kit.clock import now_ms
from modelyard.store.database import Store
from modelyard.store.objects.collection import GRACE_MS, Collection, collect
from modelyard.store.objects.local import LocalObjects
from modelyard.store.objects.port import Blob, Objects
from modelyard.store.objects.s3 import S3Objects
from tests.contract.s3server import S3Server

DAY = GRACE_MS


@pytest.fixture(params=["local", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "local":
        return LocalObjects(tmp_path / "objects")
    server: S3Server = request.getfixturevalue("s3")
    return S3Objects(server.new_bucket(), "", tmp_path / "incoming")


def refer(store: Store, path: str, blob: Blob) -> None:
    store.write_now(lambda conn: artifacts.put(conn, path, blob))


def forget(store: Store, path: str) -> None:
    store.write_now(lambda conn: artifacts.remove(conn, path))


def counts(found: Collection) -> tuple[int, int, int, int]:
    return found.kept, found.binned, found.freed, found.restored


def test_deleting_frees_after_the_grace_twice_over(store: Store, objects: Objects) -> None:
    kept, doomed = objects.put_chunks([b"kept"]), objects.put_chunks([b"doomed"])
    refer(store, "1/r/artifacts/kept", kept)
    refer(store, "1/r/artifacts/doomed", doomed)
    forget(store, "1/r/artifacts/doomed")
    now = now_ms()
    assert counts(collect(store, objects, now=now)) == (2, 0, 0, 0)
    first = collect(store, objects, now=now + 2 * DAY)
    second = collect(store, objects, now=now + 4 * DAY)
    assert (first.kept, first.binned) == (1, 1)
    assert first.freed_bytes + second.freed_bytes == len(b"doomed")
    assert [item.digest for item in objects.kept()] == [kept.digest] and list(objects.binned()) == []
    assert b"".join(objects.read(kept.digest)) == b"kept"


def test_an_upload_that_names_a_blob_as_it_is_binned_keeps_it(store: Store, objects: Objects) -> None:
    """The upload saw that the content is there; before its row is written, the collector bins it."""
    blob = objects.put_chunks([b"shared"])
    again = objects.put_chunks([b"shared"])
    assert objects.discard(blob.digest)
    refer(store, "1/r/artifacts/file", again)
    found = collect(store, objects)
    assert found.restored == 1 and found.lost == () and found.freed == 0
    assert b"".join(objects.read(again.digest)) == b"shared"


def test_a_young_blob_waits_for_its_row(store: Store, objects: Objects) -> None:
    blob = objects.put_chunks([b"young"])
    assert counts(collect(store, objects)) == (1, 0, 0, 0)
    refer(store, "1/r/artifacts/file", blob)
    assert collect(store, objects, now=now_ms() + 5 * DAY).lost == ()
    assert b"".join(objects.read(blob.digest)) == b"young"


def test_files_of_versions_are_referred_to(store: Store, objects: Objects) -> None:
    from modelyard.domain.permissions import SYSTEM
    from modelyard.registry import models, versions

    blob = objects.put_chunks([b"weights"])

    def work(conn: Connection) -> None:
        models.create(conn, "m", actor="ana")
        file = versions.ManifestFile("model.bin", blob.digest, blob.size)
        versions.register(conn, "m", [file], actor=SYSTEM, source="models:/m-1")

    store.write_now(work)
    assert counts(collect(store, objects, now=now_ms() + 5 * DAY)) == (1, 0, 0, 0)


def test_what_is_lost_is_named(store: Store, objects: Objects) -> None:
    refer(store, "1/r/artifacts/file", Blob("ab" * 32, 3))
    assert collect(store, objects).lost == ("ab" * 32,)
