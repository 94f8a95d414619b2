"""SHA-256 digests of bytes, files and JSON values."""

import hashlib
import json
from pathlib import Path
from typing import Any

CHUNK = 1 << 20


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in constant memory."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8, NaN refused.

    Raises ValueError on NaN and infinities, TypeError on what JSON cannot hold.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_json(value: Any) -> str:
    """SHA-256 of `canonical_json(value)`."""
    return sha256_hex(canonical_json(value))
