"""What the controller writes for the data plane, derived from the database alone: model folders, desired, routing."""

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.deployments import places
from modelyard.deliver.serving.spec import WorkerSpec
from modelyard.kit.files import atomic_write
from modelyard.kit.ids import new_id
from modelyard.registry.versions import ManifestFile
from modelyard.store.objects.port import Objects


def materialise(home: Path, environment: str, digest: str, manifest: list[ManifestFile], objects: Objects) -> Path:
    """The folder with a version's files, whole or absent, each checked against its digest; read-only.

    Raises Conflict when stored content does not match its digest.
    """
    folder = places.models(home, environment) / digest
    if folder.exists():
        return folder
    temporary = folder.with_name(f".{digest[:16]}-{new_id()[:8]}")
    try:
        for file in manifest:
            target = temporary / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            objects.fetch(file.digest, target)
            target.chmod(0o444)
        os.rename(temporary, folder)
    except FileExistsError:
        pass
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


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


def write_if_changed(path: Path, content: dict[str, Any], mode: int = 0o600) -> bool:
    """Replace a file whose content, its revision aside, differs; whether it did. The revision counts up."""
    try:
        held = msgspec.json.decode(path.read_bytes())
    except (FileNotFoundError, msgspec.DecodeError):
        held = {"revision": 0}
    before = {key: value for key, value in held.items() if key != "revision"}
    plain = msgspec.to_builtins(content)
    if before == plain:
        return False
    atomic_write(path, msgspec.json.encode({**plain, "revision": held.get("revision", 0) + 1}), mode=mode)
    return True
