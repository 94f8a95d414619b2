"""What an artifact store promises, on local disk and in S3."""

import hashlib
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.domain.errors import ConfigError, Conflict, NotFound, TooLarge, Unavailable
from modelyard.kit.hashing import sha256_hex
from modelyard.store.objects.local import LocalObjects
from modelyard.store.objects.opening import open_objects
from modelyard.store.objects.port import Objects
from modelyard.store.objects.s3 import PART, S3Objects
from modelyard.store.objects.sealing import Keys
from tests.contract.s3server import S3Server


@pytest.fixture(params=["local", "s3", "local sealed", "s3 sealed"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    keys = Keys([b"k" * 32]) if "sealed" in request.param else None
    if "local" in request.param:
        return LocalObjects(tmp_path / "objects", keys)
    server: S3Server = request.getfixturevalue("s3")
    return S3Objects(server.new_bucket(), "some/prefix", tmp_path / "incoming", keys)


def leftovers(objects: Objects, tmp_path: Path) -> list[Path]:
    return [file for folder in tmp_path.rglob("incoming") for file in folder.iterdir()]


async def chunks_of(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def stored(objects: Objects, *parts: bytes) -> str:
    async def put() -> str:
        return (await objects.put(chunks_of(*parts))).digest

    return anyio.run(put)


def streamed(objects: Objects, digest: str) -> bytes:
    async def read() -> bytes:
        return b"".join([chunk async for chunk in objects.stream(digest)])

    return anyio.run(read)


def test_what_is_stored_is_read_back_in_every_way(objects: Objects, tmp_path: Path) -> None:
    digest = stored(objects, b"half ", b"and half")
    assert digest == sha256_hex(b"half and half")
    assert streamed(objects, digest) == b"half and half"
    assert b"".join(objects.read(digest)) == b"half and half"
    objects.fetch(digest, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"half and half"
    assert leftovers(objects, tmp_path) == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.binary(max_size=300), max_size=6))
def test_any_bytes_in_any_chunks(objects: Objects, parts: list[bytes]) -> None:
    whole = b"".join(parts)
    blob = objects.put_chunks(parts)
    assert (blob.digest, blob.size) == (sha256_hex(whole), len(whole))
    assert stored(objects, *parts) == blob.digest
    assert b"".join(objects.read(blob.digest)) == whole


def test_several_parts_in_constant_memory(objects: Objects, tmp_path: Path) -> None:
    """200 MB go through while the process grows by less than 80 MB."""
    piece, count = bytes(range(256)) * 4096, 200
    expected = hashlib.sha256()
    for _ in range(count):
        expected.update(piece)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    blob = objects.put_chunks(piece for _ in range(count))
    assert blob.size == count << 20 > PART
    assert blob.digest == expected.hexdigest()
    found = hashlib.sha256()
    for chunk in objects.read(blob.digest):
        found.update(chunk)
    assert found.hexdigest() == blob.digest
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 80 << 10


@pytest.mark.parametrize("size", [0, 10, 1 << 20, (1 << 20) + 1, (2 << 20) - 1, 2 << 20])
def test_any_part_of_it(objects: Objects, size: int) -> None:
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    digest = objects.put_chunks([content]).digest
    assert b"".join(objects.read(digest)) == content
    edges = sorted({0, 1, 5, size // 2, (1 << 20) - 1, 1 << 20, size - 1} & set(range(size)))
    for start in edges:
        assert b"".join(objects.read(digest, start)) == content[start:]
        for end in [*edges, size]:
            if start < end:
                assert b"".join(objects.read(digest, start, end)) == content[start:end]


def test_too_much_is_refused_and_leaves_nothing(objects: Objects, tmp_path: Path) -> None:
    async def put() -> None:
        await objects.put(chunks_of(b"x" * 10, b"x" * 10), most=15)

    with pytest.raises(TooLarge):
        anyio.run(put)
    assert leftovers(objects, tmp_path) == [] and list(objects.kept()) == []


def test_a_stream_that_breaks_off_leaves_nothing(objects: Objects, tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"some"
        raise ValueError("the client went away")

    with pytest.raises(ValueError, match="went away"):
        objects.put_chunks(broken())
    assert leftovers(objects, tmp_path) == [] and list(objects.kept()) == []


@pytest.mark.parametrize("digest", ["0" * 64, "../../etc/passwd", "", "A" * 64])
def test_what_is_not_there_is_not_found(objects: Objects, digest: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        streamed(objects, digest)
    with pytest.raises(NotFound):
        list(objects.read(digest))
    with pytest.raises(NotFound):
        objects.fetch(digest, tmp_path / "copy")


def test_same_content_is_kept_once(objects: Objects, tmp_path: Path) -> None:
    first = stored(objects, b"same")
    file = tmp_path / "file"
    file.write_bytes(b"same")
    assert objects.put_file(file).digest == first
    assert [kept.digest for kept in objects.kept()] == [first]


Reader = Callable[[Objects, str, Path], bytes]


def by_fetch(objects: Objects, digest: str, folder: Path) -> bytes:
    objects.fetch(digest, folder / "fetched")
    return (folder / "fetched").read_bytes()


READERS: list[Reader] = [
    lambda objects, digest, _: streamed(objects, digest),
    lambda objects, digest, _: b"".join(objects.read(digest)),
    by_fetch,
]


@pytest.mark.parametrize("reader", READERS)
def test_a_read_brings_back_from_the_bin(objects: Objects, reader: Reader, tmp_path: Path) -> None:
    digest = stored(objects, b"wanted after all")
    assert objects.discard(digest) and not objects.discard(digest)
    assert [kept.digest for kept in objects.binned()] == [digest] and list(objects.kept()) == []
    assert reader(objects, digest, tmp_path) == b"wanted after all"
    assert [kept.digest for kept in objects.kept()] == [digest] and list(objects.binned()) == []


def test_what_is_destroyed_is_gone(objects: Objects) -> None:
    digest = stored(objects, b"nobody wants this")
    objects.discard(digest)
    objects.destroy(digest)
    objects.destroy(digest)
    assert not objects.restore(digest)
    with pytest.raises(NotFound):
        list(objects.read(digest))


def test_an_upload_beside_the_bin_is_whole(objects: Objects) -> None:
    digest = stored(objects, b"again")
    objects.discard(digest)
    assert stored(objects, b"again") == digest
    objects.destroy(digest)
    assert b"".join(objects.read(digest)) == b"again"


def test_damaged_local_content_is_not_handed_out(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path / "objects")
    digest = objects.put_chunks([b"good"]).digest
    objects.local(digest).write_bytes(b"evil")
    with pytest.raises(Conflict, match="does not match its digest"):
        objects.fetch(digest, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_damaged_remote_content_is_not_handed_out(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.new_bucket()
    objects = S3Objects(bucket, "", tmp_path / "incoming")
    digest = objects.put_chunks([b"good"]).digest
    s3.put(bucket, f"{digest[:2]}/{digest}", b"evil")
    with pytest.raises(Conflict, match="does not match its digest"):
        objects.fetch(digest, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_bucket_that_is_not_there_is_refused_in_words(s3: S3Server, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="s3://no-such-bucket/p cannot be used"):
        open_objects("s3://no-such-bucket/p", tmp_path)
    with pytest.raises(ConfigError, match="names no bucket"):
        open_objects("s3://", tmp_path)
    with pytest.raises(ConfigError, match="not supported"):
        open_objects("ftp://host/x", tmp_path)


def test_a_store_that_fails_says_so(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.new_bucket()
    objects = S3Objects(bucket, "", tmp_path / "incoming")
    s3.delete_bucket(bucket)
    with pytest.raises(Unavailable, match="does not answer"):
        objects.put_chunks([b"x"])
    assert leftovers(objects, tmp_path) == []
