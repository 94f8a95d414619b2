"""The Python environment as one digest: interpreter and every installed distribution with its version."""

import sys
from functools import cache
from importlib.metadata import distributions

from modelyard.kit.hashing import digest_json


@cache
def environment_digest() -> str:
    """SHA-256 (hex) over the interpreter's version and the sorted list of `name==version`; read once a process."""
    found = {(dist.metadata["Name"] or "").lower(): dist.version for dist in distributions()}
    return digest_json([list(sys.version_info[:3]), sorted(found.items())])
