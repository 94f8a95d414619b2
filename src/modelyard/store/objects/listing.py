"""The files and objects that a path, pattern, folder or s3:// address names."""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

REMOTE = "s3://"


class Found(NamedTuple):
    """mark: a file's time of change in nanoseconds, or an object's tag. inside: named by its folder, not itself."""

    name: str
    size: int
    mark: int | str
    inside: bool


def listed(source: str, what: str) -> list[Found]:
    """What `source` names, in the order of the names; empty when there is nothing. what: who needs it, for errors."""
    return sorted(_objects(source, what) if source.startswith(REMOTE) else _files(source))


def _files(source: str) -> Iterator[Found]:
    import glob  # late: few runs read files

    for path in [source] if os.path.exists(source) else glob.glob(source, recursive=True):
        folder = os.path.isdir(path)
        for file in [os.path.join(path, each) for each in os.listdir(path)] if folder else [path]:
            try:
                held = os.stat(file)
            except FileNotFoundError:
                continue  # it went away between the two looks
            if os.path.isfile(file):
                yield Found(file, held.st_size, held.st_mtime_ns, folder)


def _objects(source: str, what: str) -> Iterator[Found]:
    import fnmatch  # late: see above

    from modelyard.store.objects.bucket import open_bucket  # late: loads an extra

    bucket, _, key = source.removeprefix(REMOTE).partition("/")
    prefix = key.partition("*")[0]
    store: Any = open_bucket(bucket, what=what)
    for page in store.list(prefix=prefix.rpartition("/")[0] or None):
        for meta in page:
            path = str(meta["path"])
            inside = (not key or key.endswith("/")) and path.startswith(key)
            if inside or path == key or ("*" in key and fnmatch.fnmatchcase(path, key)):
                yield Found(f"{REMOTE}{bucket}/{path}", meta["size"], meta["e_tag"], inside)
