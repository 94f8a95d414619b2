"""Where the data plane's files and sockets are."""

import hashlib
import os
import tempfile
from pathlib import Path


def runtime(home: Path) -> Path:
    """A short folder for this yard's Unix sockets, whose paths may not exceed 108 bytes; readable by us alone."""
    name = f"modelyard-{os.getuid()}-{hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:8]}"
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(13, "it belongs to somebody else", str(folder))
    return folder


def worker_id(deployment: str, number: int = 0) -> str:
    """The name under which the supervisor runs a deployment's worker, the first of them unless numbered."""
    return f"w-{deployment[:16]}-{number}" if number else f"w-{deployment[:16]}"


def is_worker_of(name: str, deployment: str) -> bool:
    """Whether it is one of a deployment's workers, the first or a further one."""
    first = worker_id(deployment)
    return name == first or name.startswith(f"{first}-")


def worker_socket(home: Path, deployment: str, number: int = 0) -> Path:
    return runtime(home) / f"{worker_id(deployment, number)}.sock"


def admin_socket(home: Path, environment: str) -> Path:
    return runtime(home) / f"g-{environment[:40]}.sock"


def porter_socket(home: Path, environment: str) -> Path:
    return runtime(home) / f"p-{environment[:40]}.sock"


def serving(home: Path, environment: str) -> Path:
    return home / "serving" / environment


def predictions(home: Path, environment: str, endpoint: str) -> Path:
    return home / "predictions" / environment / endpoint


def models(home: Path, environment: str) -> Path:
    return serving(home, environment) / "models"
