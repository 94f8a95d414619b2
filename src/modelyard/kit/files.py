"""Files that are whole or absent: temporary name, fsync, rename, fsync of the folder."""

import os
from collections.abc import Iterable
from pathlib import Path

from modelyard.kit.ids import new_id


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Make a file that was written without a sync survive a power cut; nothing where it is gone by now."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    sync_folder(path.parent)


def atomic_write(path: Path, data: bytes, mode: int = 0o644, durable: bool = True) -> None:
    """Replace `path` by `data` so that a reader sees the old bytes or the new ones, never a part.

    Raises OSError (full disk, no permission); the old file is then untouched.
    """
    atomic_chunks(path, (data,), mode, durable)


def atomic_chunks(path: Path, chunks: Iterable[bytes], mode: int = 0o644, durable: bool = True) -> None:
    """`atomic_write` of bytes that come in chunks, in constant memory; what they raise is raised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{new_id()[:8]}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as stream:
            for chunk in chunks:
                stream.write(chunk)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)
