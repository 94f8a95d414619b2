"""Putting files where an MLflow server keeps them: through its proxy, or into the folder that it names."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from modelyard.client.exchange.files import PROXIED, Files
from modelyard.client.exchange.reporting import Report
from modelyard.client.exchange.rest import MlflowRest
from modelyard.domain.errors import ModelyardError
from modelyard.kit.files import atomic_chunks


class Placing:
    """Copies files from `files` to the places of `target`; each is read back and compared by its digest."""

    def __init__(self, files: Files, target: MlflowRest, report: Report) -> None:
        self._files, self._target, self._report = files, target, report
        self._there = Files(rest=target)

    def upload(self, uri: str, listed: list[tuple[str, int | None]], place: str) -> None:
        """Copy the listed files below `uri` that are not there in their size. Raises ModelyardError on damage."""
        present = dict(self._there.listing(place)) if listed else {}
        for name, size in listed:
            if name in present and present[name] == size:
                self._report.files_present += 1
                continue
            digest = hashlib.sha256()
            self._write(place, name, _noted(self._files.read(uri, name), digest))
            stored = hashlib.sha256()
            for chunk in self._there.read(place, name):
                stored.update(chunk)
            if stored.digest() != digest.digest():
                raise ModelyardError(f"{name} was damaged on the way.", remedy="Export again.")
            self._report.files += 1
            self._report.bytes += size or 0

    def _write(self, place: str, name: str, chunks: Iterator[bytes]) -> None:
        parts = urlsplit(place)
        if parts.scheme == PROXIED:
            self._target.upload(f"{unquote(parts.path).strip('/')}/{name}", chunks)
        elif parts.scheme in ("", "file"):
            atomic_chunks(Path(unquote(parts.path)) / name, chunks, durable=False)
        else:
            raise ModelyardError(
                f"The MLflow server keeps artifacts at {place} without proxying them.",
                remedy="Start it with --serve-artifacts for the time of the export.",
            )


def _noted(chunks: Iterator[bytes], digest: Any) -> Iterator[bytes]:
    """The chunks, told to `digest` as they pass."""
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
