"""Labels that arrive later, joined to predictions by id."""

import errno
import fcntl
import os
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec

from modelyard.kit.classes import class_text
from modelyard.kit.files import atomic_chunks, atomic_write, sync_folder

FILE = "ground-truth.jsonl"
NUMERIC_TASKS = {"regression": "a regression", "ranking": "a ranking", "forecasting": "a forecast"}
MOST_BYTES = 32 << 20
"""Of one request."""


Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Truth = float | str
"""A number, or a class by its name; true and false are kept as 1 and 0."""


class TrueLabel(msgspec.Struct, forbid_unknown_fields=True):
    """The truth of one prediction, as it is sent. group: the query of a ranking, or the series of a forecast."""

    id: str
    label: float | bool | Text
    time: int | None = None
    group: Text | None = None


class Labels(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request to send labels."""

    labels: list[TrueLabel]

    def at(self, now: int) -> "list[Label]":
        """As they are kept; those without a time of their own are of `now` (ms)."""
        return [Label(item.id, _kept(item.label), item.time or now, item.group, now) for item in self.labels]


class Label(msgspec.Struct, frozen=True, omit_defaults=True):
    """The truth of one prediction: its id (`<request id>:<row>`), the value, where it came with one its group, and
    when it came (ms).
    """

    id: str
    label: Truth
    time: int
    group: str | None = None
    came: int = 0

    def sent(self) -> TrueLabel:
        """As it is sent on."""
        return TrueLabel(self.id, self.label, self.time, self.group)


def _kept(label: float | bool | str) -> Truth:
    return float(label) if isinstance(label, bool) else label


def unfit(labels: Iterable[Label], task: str) -> str:
    """Why the first label that does not fit a task does not; empty when all of them do."""
    if task not in NUMERIC_TASKS:
        return ""
    named = next((label for label in labels if isinstance(label.label, str)), None)
    if named is None:
        return ""
    return f"The label of {named.id} is {str(named.label)[:40]!r}; labels of {NUMERIC_TASKS[task]} are numbers"


@contextmanager
def _locked(folder: Path) -> Generator[int]:
    """The file, to be written by nobody else meanwhile: server, gateway and who removes labels take turns."""
    path = folder / FILE
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if (
                path.exists() and os.fstat(handle).st_ino == path.stat().st_ino
            ):  # else it was replaced while we waited
                yield handle
                return
        finally:
            os.close(handle)


def append(folder: Path, labels: Iterable[Label]) -> int:
    """How many labels were written, synced to disk. Late and repeated ones are welcome: the last one holds."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lines = [msgspec.json.encode(label) + b"\n" for label in labels]
    path = folder / FILE
    fresh = not path.exists()
    with _locked(folder) as handle:
        size = os.fstat(handle).st_size
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"  # the tail of a write that was killed
        data = b"\n" * torn + b"".join(lines)
        if os.write(handle, data) < len(data):
            os.ftruncate(handle, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fdatasync(handle)
    if fresh:
        sync_folder(folder)
    return len(lines)


def read(folder: Path) -> dict[str, Truth]:
    """The newest label of each prediction id; a torn line is passed over."""
    return {name: label.label for name, label in newest(folder).items()}


def newest(folder: Path) -> dict[str, Label]:
    """What `read` reads, with all that was sent."""
    found: dict[str, Label] = {}
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
                found[label.id] = label
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
    """Remove the first `end` bytes; after a kill all of them are there, and sent once more."""
    with _locked(folder) as handle:
        rest = os.pread(handle, os.fstat(handle).st_size - end, end)
        atomic_write(folder / FILE, rest, 0o600)


def forget_labels(folder: Path, gone: Callable[[Label], bool]) -> int:
    """How many labels were removed for good, with torn lines. Nothing is written where all stay."""
    if not (folder / FILE).exists():
        return 0
    with _locked(folder), (folder / FILE).open("rb") as stream:
        lines = stream.readlines()
        kept = [line for line in lines if not _is(line, gone)]
        if len(kept) < len(lines):
            atomic_chunks(folder / FILE, kept, 0o600)
    return len(lines) - len(kept)


def _is(line: bytes, gone: Callable[[Label], bool]) -> bool:
    try:
        return gone(msgspec.json.decode(line, type=Label))
    except msgspec.DecodeError:
        return True


def join(table: Any, labels: Mapping[str, Label]) -> Any:
    """The table of predictions with a `label` column, null where none is known, and a `group` where labels have one.

    Labels are numbers, or text when one of them is. A label may name the prediction id (`<id>:<row>`), the caller's
    own (`<caller's id>:<row>`), or either without a row for a request of one row.
    """
    import pyarrow as pa  # late: only readers need it

    named = "caller_id" in table.column_names
    identities = table.column("prediction_id").to_pylist()
    callers = table.column("caller_id").to_pylist() if named else [""] * len(identities)
    none: list[Label | None] = [None] * len(identities)
    found = [_label(labels, *pair) for pair in zip(identities, callers, strict=True)] if labels else none
    values: list[Any] = [label.label if label is not None else None for label in found]
    if any(isinstance(value, str) for value in values):
        texts = [None if value is None else class_text(value) for value in values]
        table = table.append_column("label", pa.array(texts, pa.string()))
    else:
        table = table.append_column("label", pa.array(values, pa.float64()))
    if any(label is not None and label.group for label in found):
        groups = [label.group if label is not None else None for label in found]
        table = table.append_column("group", pa.array(groups, pa.string()))
    return table


def _label(labels: Mapping[str, Label], identity: str, caller: str | None) -> Label | None:
    return next((labels[name] for name in names_of(identity, caller) if name in labels), None)


def names_of(identity: str, caller: str | None) -> list[str]:
    """The ids that a label of one prediction may have, those that hold before others first."""
    request, _, row = identity.rpartition(":")
    names = [identity, *([f"{caller}:{row}"] if caller else [])]
    if row == "0":
        names += [request, *([caller] if caller else [])]
    return names
