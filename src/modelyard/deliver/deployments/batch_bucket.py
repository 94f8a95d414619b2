"""Batch prediction in S3-compatible stores: objects are read in ranges and written whole."""

import io
from dataclasses import dataclass
from typing import Any

from modelyard.deliver.serving.batch_files import Source, fixed, matcher, numbers
from modelyard.store.objects.bucket import kept_bucket

SCHEME = "s3://"


@dataclass(frozen=True)
class BucketFiles:
    """Names are keys; those written are below `prefix`."""

    bucket: str
    prefix: str = ""

    def find(self, pattern: str) -> list[Source]:
        import obstore  # late: only S3 needs it

        keys = pattern.removeprefix(f"{SCHEME}{self.bucket}").lstrip("/")
        base, matches = fixed(keys), matcher(keys)
        found = [item for page in obstore.list(_store(self.bucket), prefix=base or None) for item in page]
        return [
            Source(item["path"], item["path"].removeprefix(base), f"{self.bucket}/{item['path']}:{item['e_tag']}")
            for item in sorted(found, key=lambda item: item["path"])
            if matches.fullmatch(item["path"])
        ]

    def open(self, name: str) -> Any:
        import obstore  # late: see above

        return _Object(obstore.open_reader(_store(self.bucket), self.prefix + name))

    def write(self, name: str, body: bytes) -> None:
        import obstore  # late: see above

        obstore.put(_store(self.bucket), self.prefix + name, body)

    def remove(self, name: str) -> None:
        import obstore  # late: see above

        try:
            obstore.delete(_store(self.bucket), self.prefix + name)
        except FileNotFoundError:  # S3 itself does not tell
            return

    def numbered(self, stem: str, ending: str) -> dict[int, str]:
        import obstore  # late: see above

        base = f"{self.prefix}{stem}"
        folder = f"{base.rpartition('/')[0]}/" if "/" in base else None
        pages = obstore.list(_store(self.bucket), prefix=folder)
        names = [item["path"].removeprefix(self.prefix) for page in pages for item in page]
        return numbers(
            stem, ending, [name for name in names if name.startswith(f"{stem}-") and name.endswith(ending)]
        )

    def whole(self, name: str) -> str:
        return f"{SCHEME}{self.bucket}/{self.prefix}{name}"


class _Object(io.RawIOBase):
    """An object as Python has files; obstore's reader says `closed` by a method, which pyarrow takes for yes."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return bytes(self._reader.read(None if size < 0 else size))

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return int(self._reader.tell())


def _store(bucket: str) -> Any:
    return kept_bucket(bucket, what="Batch prediction in S3")
