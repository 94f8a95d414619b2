"""Child processes that do not outlive their parent."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
SECRETS = ("MODELYARD_", "MLFLOW_", "AWS_", "DATABASE", "PG")


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent dies (Linux; elsewhere it does nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def without_secrets() -> dict[str, str]:
    """The environment of this process without credentials, for gateways, workers and helpers: they need none."""
    return {name: value for name, value in os.environ.items() if not name.startswith(SECRETS)}
