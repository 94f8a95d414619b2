"""Child processes that do not outlive their parent, and whole trees of them that are stopped."""

import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
SECRETS = ("MODELYARD_", "MLFLOW_", "AWS_", "DATABASE", "PG")


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask the kernel to end this process when its parent dies (Linux; elsewhere it does nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def without_secrets() -> dict[str, str]:
    """The environment of this process without credentials, for gateways, workers and helpers: they need none."""
    return {name: value for name, value in os.environ.items() if not name.startswith(SECRETS)}


def descendants(process: int) -> list[int]:
    """Every process that descends from this one, by /proc; empty where there is none."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, waiting = [], [process]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def kill_tree(process: int) -> None:
    """Kill a process, its group and everything that it started."""
    for each in [process, *descendants(process)]:
        try:
            os.kill(each, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    kill_group(process)


def kill_group(leader: int) -> None:
    """Kill what is left of a process group."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
