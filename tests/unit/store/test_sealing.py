"""Sealed content: nothing of it is readable, nothing can be changed unnoticed, former keys still open."""

import base64
from pathlib import Path

import pytest

from modelyard.domain.errors import ConfigError, Conflict
from modelyard.kit.hashing import CHUNK
from modelyard.store.objects.local import LocalObjects
from modelyard.store.objects.sealing import HEADER, SEGMENT, TAG, Keys, keys_of, sealed_size

FIRST, SECOND = b"1" * 32, b"2" * 32
CONTENT = b"weights of a model " * 130_000


def held(folder: Path, keys: list[bytes]) -> tuple[LocalObjects, str, Path]:
    objects = LocalObjects(folder, Keys(keys))
    digest = objects.put_chunks([CONTENT[n : n + CHUNK] for n in range(0, len(CONTENT), CHUNK)]).digest
    return objects, digest, folder / digest[:2] / digest


def test_nothing_is_readable_and_the_size_is_known(tmp_path: Path) -> None:
    objects, digest, file = held(tmp_path, [FIRST])
    stored = file.read_bytes()
    assert b"weights" not in stored and len(stored) == sealed_size(len(CONTENT))
    assert objects.local(digest) is None and b"".join(objects.read(digest)) == CONTENT


def test_the_same_content_twice_has_nothing_in_common(tmp_path: Path) -> None:
    first, second = (held(tmp_path / name, [FIRST])[2].read_bytes() for name in ("a", "b"))
    assert first[HEADER:] != second[HEADER:]


@pytest.mark.parametrize("what", ["bit", "cut", "swapped", "header", "left out"])
def test_a_change_is_noticed(tmp_path: Path, what: str) -> None:
    objects, digest, file = held(tmp_path, [FIRST])
    stored, whole = bytearray(file.read_bytes()), SEGMENT + TAG
    if what == "bit":
        stored[HEADER + 10] ^= 1
    elif what == "cut":
        del stored[HEADER + whole :]
    elif what == "swapped":
        one, two = stored[HEADER : HEADER + whole], stored[HEADER + whole : HEADER + 2 * whole]
        stored[HEADER : HEADER + 2 * whole] = two + one
    elif what == "header":
        stored[HEADER - 1] ^= 1
    else:
        del stored[HEADER : HEADER + whole]
    file.write_bytes(stored)
    with pytest.raises(Conflict, match="changed or cut off"):
        b"".join(objects.read(digest))


def test_a_former_key_opens_and_the_new_one_seals(tmp_path: Path) -> None:
    _, digest, _ = held(tmp_path, [FIRST])
    both = LocalObjects(tmp_path, Keys([SECOND, FIRST]))
    assert b"".join(both.read(digest)) == CONTENT
    other = both.put_chunks([b"new"]).digest
    assert b"".join(LocalObjects(tmp_path, Keys([SECOND])).read(other)) == b"new"
    with pytest.raises(Conflict, match="not among this yard's"):
        b"".join(LocalObjects(tmp_path, Keys([SECOND])).read(digest))


def test_what_was_stored_before_there_was_a_key_is_read_and_sealed_when_it_comes_again(tmp_path: Path) -> None:
    plain = LocalObjects(tmp_path)
    digest = plain.put_chunks([b"plain"]).digest
    sealed = LocalObjects(tmp_path, Keys([FIRST]))
    assert b"".join(sealed.read(digest)) == b"plain"
    sealed.put_chunks([b"plain"])
    assert b"plain" not in (tmp_path / digest[:2] / digest).read_bytes()
    sealed.fetch(digest, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"plain"


def test_keys_come_from_a_file_or_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("\n".join(base64.b64encode(key).decode() for key in (FIRST, SECOND)))
    assert keys_of({"MODELYARD_KEY_FILE": str(file)}) and keys_of({"MODELYARD_KEY": file.read_text().split()[0]})
    assert keys_of({}) is None
    for wrong in (
        {"MODELYARD_KEY": "short"},
        {"MODELYARD_KEY": "AAAA"},
        {"MODELYARD_KEY_FILE": str(tmp_path / "no")},
    ):
        with pytest.raises(ConfigError, match="openssl rand -base64 32"):
            keys_of(wrong)
