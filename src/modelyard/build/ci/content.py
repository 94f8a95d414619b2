"""What a stored output holds, apart from how its format wrote it down: the part that must be reproducible."""

import json
import zipfile
from pathlib import Path
from typing import Any

from modelyard.build.pipelines.cache import Cache
from modelyard.build.pipelines.nodes import Stored
from modelyard.kit.hashing import digest_json

MEASURED = ("latency", "seconds", "duration")
"""Keys of values that measure this machine rather than the data."""


def content_digest(cache: Cache, stored: Stored) -> str:
    """A digest that two runs share when they computed the same.

    A skops file names objects by their addresses in memory and dates its members; timings differ from run to run:
    neither counts. Other formats are compared byte by byte.
    """
    if stored.parts:
        kept = [(name, content_digest(cache, part)) for name, part in stored.parts if not name.startswith(MEASURED)]
        return digest_json([stored.format, kept])
    if stored.format == "json":
        text = stored.text if stored.text is not None else cache.path(stored).read_text()
        return digest_json(_without_timings(json.loads(text)))
    return _skops(cache.path(stored)) if stored.format == "skops" else stored.digest


def _without_timings(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if not str(key).startswith(MEASURED)}
        return {key: _without_timings(item) for key, item in kept.items()}
    if isinstance(value, list):
        return [_without_timings(item) for item in value]
    return value if not isinstance(value, float) else repr(value)


def _skops(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        schema = json.loads(archive.read("schema.json"))
        files = {name: archive.getinfo(name).CRC for name in archive.namelist() if name != "schema.json"}
    return digest_json(_anonymous(schema, files))


def _anonymous(value: Any, files: dict[str, int]) -> Any:
    """A skops schema without the addresses of objects, and with checksums in place of the names of files."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key != "__id__"}
        return {
            key: files.get(item, item) if key == "file" else _anonymous(item, files) for key, item in kept.items()
        }
    if isinstance(value, list):
        return [_anonymous(item, files) for item in value]
    return value if not isinstance(value, float) else repr(value)
