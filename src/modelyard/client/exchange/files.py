"""Where a foreign store keeps its artifacts: a folder, the server's proxy, an S3 bucket."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from modelyard.client.exchange.rest import MlflowRest
from modelyard.domain.errors import Invalid, NotFound
from modelyard.kit.hashing import CHUNK

PROXIED = "mlflow-artifacts"


class Files:
    """Lists and reads artifacts by the URIs that a foreign store wrote down.

    `rest` is the server that proxies mlflow-artifacts: URIs; `root` the folder that such a server kept them in, when
    its database is read instead.
    """

    def __init__(self, rest: MlflowRest | None = None, root: Path | None = None) -> None:
        self._rest, self._root = rest, root

    def listing(self, uri: str) -> list[tuple[str, int | None]]:
        """(relative path, size where known) of every file below `uri`, by path; empty when nothing is there.

        Raises Invalid for a place that cannot be read from here.
        """
        place = self._place(uri)
        if isinstance(place, Path):
            found = [(file.relative_to(place).as_posix(), file.stat().st_size) for file in _below(place)]
        elif isinstance(place, MlflowRest):
            try:
                found = list(place.listing(_inner(uri)))
            except NotFound:
                found = []
        else:
            found = _s3_listing(place, urlsplit(uri).path.strip("/"))
        return sorted(found)

    def read(self, uri: str, path: str) -> Iterator[bytes]:
        """A file's bytes, in chunks."""
        place = self._place(uri)
        if isinstance(place, Path):
            with (place / path).open("rb") as stream:
                while chunk := stream.read(CHUNK):
                    yield chunk
        elif isinstance(place, MlflowRest):
            yield from place.download(f"{_inner(uri)}/{path}")
        else:
            import obstore  # late: only S3 needs it

            key = "/".join(part for part in (urlsplit(uri).path.strip("/"), path) if part)
            yield from (bytes(chunk) for chunk in obstore.get(place, key).stream(min_chunk_size=CHUNK))

    def _place(self, uri: str) -> Any:
        parts = urlsplit(uri)
        if parts.scheme in ("", "file"):
            return Path(unquote(parts.path))
        if parts.scheme == PROXIED:
            if self._rest is not None:
                return self._rest
            if self._root is not None:
                return self._root / _inner(uri)
            raise Invalid(
                f"{uri} is kept by the server behind this database.",
                remedy="Name the folder or bucket that it stores artifacts in: --artifacts ./mlartifacts",
            )
        if parts.scheme == "s3":
            return _bucket(parts.netloc)
        raise Invalid(f"Artifacts at {uri} cannot be read from here.", remedy="Copy them to a folder or S3 first.")


def _inner(uri: str) -> str:
    return unquote(urlsplit(uri).path).strip("/")


def _below(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()] if folder.is_dir() else []


def _bucket(name: str) -> Any:
    from modelyard.store.objects.bucket import open_bucket  # late: only S3 needs it

    return open_bucket(name, what="Reading artifacts in S3")


def _s3_listing(bucket: Any, prefix: str) -> list[tuple[str, int | None]]:
    import obstore  # late: see above

    found: list[tuple[str, int | None]] = []
    for page in obstore.list(bucket, prefix=prefix):
        found += [(item["path"].removeprefix(prefix).strip("/"), item["size"]) for item in page]
    return found
