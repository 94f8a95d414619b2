"""Content encrypted at rest: in segments, under a data key of its own that a key of the yard's wraps.

Format 1: MAGIC, 8 bytes of the wrapping key's SHA-256, the data key wrapped by AES-256-GCM (12 bytes of nonce, 48 of
key and tag); then the segments, each AES-256-GCM with its number as nonce and "more" or "last" as associated data:
none can be changed, moved, left out or cut off unnoticed.
"""

import base64
import binascii
import hashlib
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modelyard.domain.errors import ConfigError, Conflict, MissingExtra

MAGIC = b"MYARD\x00\x00\x01"
MARK, NONCE, TAG, KEY = 8, 12, 16, 32
HEADER = len(MAGIC) + MARK + NONCE + KEY + TAG
SEGMENT = 1 << 20
FILE, VARIABLE = "MODELYARD_KEY_FILE", "MODELYARD_KEY"


class Keys:
    """The yard's keys: the first seals, all of them open."""

    def __init__(self, keys: list[bytes]) -> None:
        if find_spec("cryptography") is None:
            raise MissingExtra("cryptography", "encryption", "An encrypted artifact store")
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # late: most yards have no key

        self._cipher: Any = AESGCM
        self._keys = {hashlib.sha256(key).digest()[:MARK]: key for key in keys}

    def seal(self) -> "Seal":
        """For one new object."""
        mark, key = next(iter(self._keys.items()))
        secret, nonce = os.urandom(KEY), os.urandom(NONCE)
        header = MAGIC + mark + nonce + self._cipher(key).encrypt(nonce, secret, MAGIC)
        return Seal(header, self._cipher(secret))

    def opener(self, header: bytes, start: int) -> "Opener":
        """For an object with this header, read from the segment that holds byte `start`. Raises Conflict."""
        mark, wrapped = header[len(MAGIC) : len(MAGIC) + MARK], header[len(MAGIC) + MARK :]
        key = self._keys.get(mark)
        if key is None or len(header) < HEADER:
            raise Conflict(
                f"An artifact is sealed with the key {mark.hex()}, which is not among this yard's.",
                remedy=f"Add that key to the file of {FILE}.",
            )
        secret = _opened(self._cipher(key), wrapped[:NONCE], wrapped[NONCE:], MAGIC)
        return Opener(self._cipher(secret), start)


class Seal:
    """Turns content into its sealed form, piece by piece."""

    def __init__(self, header: bytes, cipher: Any) -> None:
        self._header, self._cipher = header, cipher
        self._held, self._number = bytearray(), 0

    def add(self, piece: bytes | memoryview) -> bytes:
        """What can be written now; the last segment waits for `end`."""
        self._held += piece
        made = [self._header]
        self._header = b""
        while len(self._held) > SEGMENT:
            made.append(self._segment(bytes(self._held[:SEGMENT]), b"more"))
            del self._held[:SEGMENT]
        return b"".join(made)

    def end(self) -> bytes:
        return self.add(b"") + self._segment(bytes(self._held), b"last")

    def _segment(self, content: bytes, place: bytes) -> bytes:
        self._number += 1
        return self._cipher.encrypt(_nonce(self._number - 1), content, place)


class Opener:
    """Turns the sealed form back, from `offset` of the stored object on."""

    def __init__(self, cipher: Any, start: int) -> None:
        self._cipher, self._number = cipher, start // SEGMENT
        self._skip, self._held = start % SEGMENT, bytearray()
        self.offset = HEADER + self._number * (SEGMENT + TAG)

    def add(self, piece: bytes) -> bytes:
        """Content whose segments are whole. Raises Conflict for what was changed."""
        self._held += piece
        made: list[bytes] = []
        while len(self._held) > SEGMENT + TAG:
            made.append(self._segment(SEGMENT + TAG, b"more"))
        return b"".join(made)

    def end(self) -> bytes:
        """The last segment's content. Raises Conflict when it is not the last: the object was cut off."""
        return self._segment(len(self._held), b"last")

    def _segment(self, length: int, place: bytes) -> bytes:
        content = _opened(self._cipher, _nonce(self._number), bytes(self._held[:length]), place)
        del self._held[:length]
        skipped, self._skip, self._number = self._skip, 0, self._number + 1
        return content[skipped:]


def sealed_size(size: int) -> int:
    """Bytes that content of `size` bytes takes when it is sealed."""
    return HEADER + size + max(1, -(-size // SEGMENT)) * TAG


def opener_of(keys: Keys | None, header: bytes, start: int) -> Opener | None:
    """What opens a stored object; None for one that was stored before there was a key."""
    return keys.opener(header, start) if keys is not None and header.startswith(MAGIC) else None


def opened(chunks: Iterable[bytes], opener: Opener | None, start: int, end: int | None) -> Iterator[bytes]:
    """The content from `start` up to `end`, of stored bytes that begin where the opener (or `start`) says."""
    left = math.inf if end is None else end - start
    for chunk in itertools.chain(chunks, (None,)):
        if chunk is None:
            piece = b"" if opener is None else opener.end()
        else:
            piece = chunk if opener is None else opener.add(chunk)
        if len(piece) >= left:
            yield piece[: int(left)]
            return
        left -= len(piece)
        if piece:
            yield piece


def keys_of(environment: Mapping[str, str]) -> Keys | None:
    """The keys that $MODELYARD_KEY_FILE or $MODELYARD_KEY hold, 32 bytes in base64 each; None without either.

    Raises ConfigError for what is no key, MissingExtra without the package it needs.
    """
    file, value = environment.get(FILE), environment.get(VARIABLE)
    if not file and not value:
        return None
    name = f"{FILE}={file}" if file else VARIABLE
    try:
        lines = Path(file).read_text().split() if file else [value or ""]
        keys = [base64.b64decode(line, validate=True) for line in lines]
    except (OSError, UnicodeDecodeError, binascii.Error) as error:
        raise _no_key(name, str(error)) from error
    if not keys or any(len(key) != KEY for key in keys):
        raise _no_key(name, "a key has 32 bytes")
    return Keys(keys)


def _no_key(name: str, why: str) -> ConfigError:
    return ConfigError(f"{name} holds no key: {why}.", remedy="Make one: openssl rand -base64 32")


def _nonce(number: int) -> bytes:
    return number.to_bytes(NONCE, "big")


def _opened(cipher: Any, nonce: bytes, content: bytes, place: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag  # late: see Keys

    try:
        return cipher.decrypt(nonce, content, place)
    except InvalidTag as error:
        raise Conflict("A sealed artifact was changed or cut off.", remedy="Restore it from a backup.") from error
