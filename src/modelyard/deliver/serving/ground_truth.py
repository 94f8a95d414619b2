"""Labels that arrive later, joined to predictions by id."""

import errno
import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from modelyard.kit.files import sync_folder

FILE = "ground-truth.jsonl"
MOST_BYTES = 32 << 20
"""Of one request."""


class TrueLabel(msgspec.Struct, forbid_unknown_fields=True):
    """The truth of one prediction, as it is sent."""

    id: str
    label: float
    time: int | None = None


class Labels(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request to send labels."""

    labels: list[TrueLabel]

    def at(self, now: int) -> "list[Label]":
        """As they are kept; those without a time of their own are of `now` (ms)."""
        return [Label(item.id, item.label, item.time or now) for item in self.labels]


class Label(msgspec.Struct, frozen=True):
    """The truth of one prediction: its id (`<request id>:<row>`) and the value."""

    id: str
    label: float
    time: int


def append(folder: Path, labels: Iterable[Label]) -> int:
    """How many labels were written, synced to disk. Late and repeated ones are welcome: the last one holds."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lines = [msgspec.json.encode(label) + b"\n" for label in labels]
    path = folder / FILE
    fresh = not path.exists()
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # the server and the gateway may both write
        size = os.fstat(handle).st_size
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"  # the tail of a write that was killed
        data = b"\n" * torn + b"".join(lines)
        if os.write(handle, data) < len(data):
            os.ftruncate(handle, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fdatasync(handle)
    finally:
        os.close(handle)
    if fresh:
        sync_folder(folder)
    return len(lines)


def read(folder: Path) -> dict[str, float]:
    """The newest label of each prediction id; a torn line is passed over."""
    found: dict[str, float] = {}
    path = folder / FILE
    if not path.exists():
        return found
    decoder = msgspec.json.Decoder(Label)
    with path.open("rb") as stream:
        for line in stream:
            try:
                label = decoder.decode(line)
            except msgspec.DecodeError:
                continue
            if line.endswith(b"\n"):
                found[label.id] = label.label
    return found


def oldest(folder: Path, most: int) -> tuple[list[Label], int]:
    """(up to so many labels, at how many bytes the next one begins), to be sent on; torn lines are left out."""
    labels: list[Label] = []
    end = 0
    try:
        with (folder / FILE).open("rb") as stream:
            for line in stream:
                if len(labels) == most or not line.endswith(b"\n"):
                    break
                end += len(line)
                try:
                    labels.append(msgspec.json.decode(line, type=Label))
                except msgspec.DecodeError:
                    continue
    except FileNotFoundError:
        pass
    return labels, end


def forget(folder: Path, end: int) -> None:
    """Remove the first `end` bytes; what a kill leaves of them is sent once more."""
    handle = os.open(folder / FILE, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        rest = os.pread(handle, os.fstat(handle).st_size - end, end)
        os.pwrite(handle, rest, 0)
        os.ftruncate(handle, len(rest))
    finally:
        os.close(handle)


def join(table: Any, labels: dict[str, float]) -> Any:
    """The table of predictions with a `label` column, null where none is known.

    A label may name the prediction id (`<id>:<row>`), the caller's own (`<caller's id>:<row>`), or either without a
    row for a request of one row.
    """
    import pyarrow as pa  # late: only readers need it

    named = "caller_id" in table.column_names
    identities = table.column("prediction_id").to_pylist()
    callers = table.column("caller_id").to_pylist() if named else [""] * len(identities)
    values = [_label(labels, *pair) for pair in zip(identities, callers, strict=True)] if labels else []
    return table.append_column("label", pa.array(values or [None] * len(identities), pa.float64()))


def _label(labels: dict[str, float], identity: str, caller: str | None) -> float | None:
    request, _, row = identity.rpartition(":")
    names = [identity, *([f"{caller}:{row}"] if caller else [])]
    if row == "0":
        names += [request, *([caller] if caller else [])]
    return next((labels[name] for name in names if name in labels), None)
