"""Joining a Ray cluster: where it is, whether it answers, and what its nodes can be shown of this machine's disk."""

import logging
import os
import socket
from pathlib import Path
from typing import Any

REACH_S = 10.0
"""How long the cluster's door may take to open; Ray itself goes on knocking for minutes."""
HEAD, DOOR = "/ray.rpc.NodeInfoGcsService/CheckAlive", "/ray.rpc.RayletDriver/ClusterInfo"
"""Calls that change nothing, by which a cluster's head and its door for clients say whether they ask for a token."""
NOTED = Path("/tmp/ray/ray_current_cluster")
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
    if address is not None:
        _prepare(address)
    import ray  # late: an extra, and slow to load

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING, "namespace": namespace}
    if runtime_env is not None:
        options["runtime_env"] = runtime_env
    if address is None:
        options["include_dashboard"] = False  # of a cluster that ends with the run; it would start first
    try:
        ray.init(address, **options)
    except Exception as error:  # Ray raises plain Exception when a node does not start
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        last = f" {lines[-1]}" if lines[1:] else ""
        raise ClusterAway(f"Ray at {address or 'this machine'} cannot be used: {lines[0]}{last}") from error
    return ray


def _whereabouts(address: str) -> str:
    """HOST:PORT of an address; of `auto`, what Ray notes of this machine's cluster. Empty where it cannot be told."""
    found = address.removeprefix("ray://")
    if found == "auto":
        try:
            found = NOTED.read_text().strip()
        except OSError:
            return ""
    _, colon, port = found.rpartition(":")
    return found if colon and port.isdigit() else ""


def _prepare(address: str) -> None:
    """Raise ClusterAway when nobody answers there; tell Ray to show its token to a cluster that asks for one.

    Ray has to know beforehand: shown to a cluster that asks for none, a token breaks what its nodes send back.
    """
    where = _whereabouts(address)
    if not where:
        return
    _reach(where)
    if "RAY_AUTH_MODE" in os.environ or not _asks_for_token(where, DOOR if address.startswith("ray://") else HEAD):
        return
    given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if not given and not (Path.home() / ".ray" / "auth_token").exists():
        raise ClusterAway(
            f"Ray at {where} asks for a token: set RAY_AUTH_TOKEN to what `ray get-auth-token` says there."
        )
    os.environ["RAY_AUTH_MODE"] = "token"


def _asks_for_token(where: str, call: str) -> bool:
    import grpc  # late: comes with Ray

    with grpc.insecure_channel(where) as channel:
        try:
            channel.unary_unary(call)(b"", timeout=REACH_S)
        except grpc.RpcError as error:
            return error.code() == grpc.StatusCode.UNAUTHENTICATED  # pyright: ignore[reportAttributeAccessIssue]
    return False


def _reach(where: str) -> None:
    """Raise ClusterAway when nobody answers there."""
    host, _, port = where.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
    except OSError as error:
        raise ClusterAway(f"Ray at {where} cannot be used: {error.strerror or error}.") from error


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
