"""Joining a Ray cluster: where it is, whether it answers, and what its nodes can be shown of this machine's disk."""

import logging
import os
import socket
from pathlib import Path
from typing import Any

REACH_S = 10.0
"""How long the cluster's door may take to open; Ray itself goes on knocking for minutes."""
NODE_DEATHS = 5
"""How often Ray runs a task again whose worker or node died."""


class ClusterAway(Exception):
    """A cluster that cannot be used, in one line."""


def address_of(engine: str) -> str | None:
    """The Ray address of `ray` (None: this machine, started for the run) or `ray://host:port`. Raises ValueError."""
    if engine == "ray":
        return os.environ.get("RAY_ADDRESS") or None
    if engine.startswith("ray://") and engine.removeprefix("ray://"):
        return engine
    raise ValueError(engine)


def join(address: str | None, runtime_env: dict[str, Any] | None = None, namespace: str | None = None) -> Any:
    """The ray module, connected; None starts a cluster on this machine, which ends with this process.

    Raises ModuleNotFoundError where Ray is not installed, ClusterAway.
    """
    os.environ.setdefault("RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES", "")  # ours are given; its own print a warning
    import ray  # late: an extra, and slow to load

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING, "namespace": namespace}
    if runtime_env is not None:
        options["runtime_env"] = runtime_env
    if address is None:
        options["include_dashboard"] = False  # of a cluster that ends with the run; it would start first
    else:
        _reach(address)
    try:
        ray.init(address, **options)
    except Exception as error:  # Ray raises plain Exception when a node does not start
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ClusterAway(f"Ray at {address or 'this machine'} cannot be used: {first}") from error
    return ray


def _reach(address: str) -> None:
    """Raise ClusterAway when nobody answers at HOST:PORT. Other words, such as `auto`, are Ray's to look up."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
    except OSError as error:
        raise ClusterAway(f"Ray at {address} cannot be used: {error.strerror or error}.") from error


class Mark:
    """A file by which a node knows that it sees this machine's disk, and not one whose paths are alike."""

    def __init__(self, file: Path) -> None:
        self.file, self.text = file, os.urandom(16).hex()
        file.write_text(self.text)

    def seen(self) -> bool:
        """Whether this process, here or on a node, sees it."""
        try:
            return self.file.read_text() == self.text
        except OSError:
            return False
