"""Segments of far machines' prediction logs, as they arrive: in pieces, each segment once, whole or absent."""

import os
import re
from pathlib import Path

from modelyard.deliver.serving.capture import SHADOW
from modelyard.deliver.serving.prediction_log import PARQUET, SEALED, UNREAD
from modelyard.domain.errors import Conflict, Invalid
from modelyard.kit.files import sync_folder
from modelyard.kit.hashing import digest_file

NAME = re.compile(r"[0-9]{13}-[0-9a-f]{8}")
MOST_BYTES = 256 << 20
"""A segment is sealed at 8 MiB; one answer more may be as large as a request may be."""


def folder_of(predictions: Path, log: str, name: str) -> Path:
    """Where a segment belongs. Raises Invalid for a name that no prediction log gives."""
    if log not in ("answers", SHADOW) or not NAME.fullmatch(name):
        raise Invalid(f"{log}/{name} is no segment.", remedy="Give answers or shadow, and the file's own name.")
    return predictions / SHADOW if log == SHADOW else predictions


def arrived(folder: Path, name: str) -> tuple[int, bool]:
    """(how many bytes of a segment are here, whether it is here as a whole)."""
    places = (folder / f"{name}{SEALED}", folder / UNREAD / f"{name}{SEALED}")
    if any(place.exists() for place in places) or any((folder / PARQUET).glob(f"*/{name}.parquet")):
        return 0, True
    part = _part(folder, name)
    return (part.stat().st_size if part.exists() else 0), False


def take(folder: Path, name: str, offset: int, size: int, digest: str, data: bytes) -> tuple[int, bool]:
    """Write a piece; what `arrived` says then. The last piece makes the segment whole, and seen by readers.

    Raises Conflict for a piece that does not follow what is here, or a whole that is not its digest.
    """
    here, whole = arrived(folder, name)
    if whole:
        return here, True
    if offset > here or offset + len(data) > size or size > MOST_BYTES:
        raise Conflict(f"{name}: {here} bytes are here, a piece at {offset} does not follow.", remedy="Ask, go on.")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = _part(folder, name)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(handle, data, offset)
        os.fsync(handle)
    finally:
        os.close(handle)
    if offset + len(data) < size:
        return arrived(folder, name)
    if digest_file(part) != digest:
        part.unlink()
        raise Conflict(f"{name} does not match its digest.", remedy="Send it again.")
    part.rename(folder / f"{name}{SEALED}")
    sync_folder(folder)
    return size, True


def _part(folder: Path, name: str) -> Path:
    return folder / f".{name}.part"
