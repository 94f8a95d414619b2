"""From a setting to an artifact store."""

import os
from pathlib import Path

from modelyard.domain.errors import ConfigError
from modelyard.store.objects.local import LocalObjects
from modelyard.store.objects.port import Objects
from modelyard.store.objects.s3 import S3Objects
from modelyard.store.objects.sealing import keys_of


def open_objects(url: str, home: Path) -> Objects:
    """The store at `url`: s3://bucket/prefix, a folder, or (empty) the yard's own folder.

    Sealed with the key that the environment names, if any. Raises ConfigError for what it is not or cannot be
    reached, MissingExtra without the package it needs.
    """
    keys = keys_of(os.environ)
    if url.startswith("s3://"):
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not bucket:
            raise ConfigError(f"{url!r} names no bucket.", remedy="Write s3://bucket/prefix.")
        remote = S3Objects(bucket, prefix.strip("/"), home / "incoming", keys)
        remote.check()
        return remote
    if "://" in url and not url.startswith("file://"):
        raise ConfigError(
            f"The artifact store {url!r} is not supported.", remedy="Use s3://bucket/prefix or a folder."
        )
    return LocalObjects(Path(url.removeprefix("file://")) if url else home / "objects", keys)
