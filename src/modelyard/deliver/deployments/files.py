"""What the controller writes for the data plane, derived from the database alone: model folders, desired, routing."""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.deployments import places
from modelyard.deliver.serving.spec import WorkerSpec
from modelyard.kit.files import atomic_write, sync_folder
from modelyard.kit.hashing import digest_file
from modelyard.kit.ids import new_id
from modelyard.registry.versions import ManifestFile

LOCK_PATIENCE_S = 0.5
"""A process that hangs while it holds the lock does not keep a rollback waiting for longer."""
Fetch = Callable[[str, Path], None]
"""Writes the content of a digest into a new file, checked."""


def materialise(home: Path, environment: str, digest: str, manifest: list[ManifestFile], fetch: Fetch) -> Path:
    """The folder with a version's files, whole or absent, each checked against its digest; read-only.

    A folder that is there but damaged is replaced. Raises Conflict when stored content does not match its digest.
    """
    folder = places.models(home, environment) / digest
    if intact(folder, manifest):
        return folder
    temporary = folder.with_name(f".{digest[:16]}-{new_id()[:8]}")
    aside = temporary.with_name(f"{temporary.name}-damaged")
    try:
        for file in manifest:
            _copy(fetch, file, temporary / file.path)
        if folder.exists():
            os.rename(folder, aside)
        os.rename(temporary, folder)
        sync_folder(folder.parent)
    except OSError:
        if not intact(folder, manifest):  # otherwise another process was first
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def intact(folder: Path, manifest: list[ManifestFile]) -> bool:
    """Whether a folder holds every file of the manifest with its digest."""
    try:
        return all(digest_file(folder / file.path) == file.digest for file in manifest)
    except OSError:
        return False


def _copy(fetch: Fetch, file: ManifestFile, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    fetch(file.digest, target)
    with target.open("rb") as stream:
        os.fsync(stream.fileno())
    target.chmod(0o444)


def worker_spec(
    home: Path, environment: str, deployment: str, model: str, version: int, digest: str, manifest: list[ManifestFile]
) -> WorkerSpec:
    """What the supervisor is asked to run for a deployment."""
    return WorkerSpec(
        id=places.worker_id(deployment),
        deployment=deployment,
        model=model,
        version=version,
        digest=digest,
        model_dir=str(places.models(home, environment) / digest),
        manifest={file.path: file.digest for file in manifest},
        socket=str(places.worker_socket(home, deployment)),
    )


def write_if_changed(path: Path, content: dict[str, Any], mode: int = 0o600, durable: bool = True) -> bool:
    """Replace a file whose content, its revision aside, differs; whether it did. The revision counts up."""
    held = _held(path)
    before = {key: value for key, value in held.items() if key != "revision"}
    plain = msgspec.json.decode(msgspec.json.encode(content))  # a tuple is a list there, and no difference
    if before == plain:
        return False
    atomic_write(path, msgspec.json.encode({**plain, "revision": held.get("revision", 0) + 1}), mode, durable)
    return True


def revision(path: Path) -> int:
    """How often `write_if_changed` replaced a file; 0 for one that is not there or damaged."""
    return _held(path).get("revision", 0)


def _held(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes())
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


@contextlib.contextmanager
def alone(folder: Path) -> Generator[None]:
    """One writer of an environment's files at a time, be it a thread or another process."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    given_up = time.monotonic() + LOCK_PATIENCE_S
    try:
        while time.monotonic() < given_up:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.002)
        yield
    finally:
        os.close(handle)
