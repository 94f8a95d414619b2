"""Where batch prediction reads and writes: this machine's folders, or what else has these few calls."""

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from modelyard.kit.ids import new_id

SPECIAL = re.compile(r"[*?\[]")
PARTITION = re.compile(r"([^/=]+)=([^/]*)")


@dataclass(frozen=True)
class Source:
    """An input file. relative: its path below the fixed part of the pattern; identity: changes with its content.

    Of a CSV file that was looked at, `kinds` are its columns' types and `skipped` the rows that are none, ascending.
    """

    name: str
    relative: str
    identity: str
    kinds: tuple[tuple[str, str], ...] = ()
    skipped: tuple[int, ...] = ()

    @property
    def stem(self) -> str:
        """Its path without the ending, below which its parts are named."""
        return self.relative.rpartition(".")[0] or self.relative

    @property
    def partitions(self) -> dict[str, str]:
        """What its folders say of all of its rows: `day=2026-03-01/hour=7` is {"day": ..., "hour": ...}."""
        return {found[1]: unquote(found[2]) for found in PARTITION.finditer(self.relative.rpartition("/")[0])}

    def row(self, index: int) -> int:
        """The number of a row as a person counts: from 1 on, below the header, with the skipped ones."""
        number = index + 1
        for skipped in self.skipped:
            if skipped > number:
                break
            number += 1
        return number


class Files(Protocol):
    """Objects of this kind cross into worker processes, so they hold names and no connection."""

    def find(self, pattern: str) -> list[Source]:
        """The files that match, by name; `**` crosses folders."""
        ...

    def open(self, name: str) -> Any:
        """A readable, seekable file. Raises FileNotFoundError."""
        ...

    def write(self, name: str, body: bytes) -> None:
        """The whole file, or nothing of it."""
        ...

    def remove(self, name: str) -> None:
        """A file that is not there is none to remove."""
        ...

    def numbered(self, stem: str, ending: str) -> dict[int, str]:
        """The written files `<stem>-<number><ending>`, by number."""
        ...

    def whole(self, name: str) -> str:
        """How a pattern would name a written file."""
        ...


@dataclass(frozen=True)
class LocalFiles:
    """Names are paths; those written are relative to `root`."""

    root: Path = Path()

    def find(self, pattern: str) -> list[Source]:
        base = Path(fixed(pattern))
        found = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
        return [_local(file, base) for file in found if file.is_file()]

    def open(self, name: str) -> Any:
        return (self.root / name).open("rb")

    def write(self, name: str, body: bytes) -> None:
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{new_id()[:8]}")
        temporary.write_bytes(body)
        os.replace(temporary, target)

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def numbered(self, stem: str, ending: str) -> dict[int, str]:
        found = self.root.glob(f"{glob.escape(stem)}-*{ending}")
        return numbers(stem, ending, [file.relative_to(self.root).as_posix() for file in found])

    def whole(self, name: str) -> str:
        return os.path.abspath(self.root / name)


def numbers(stem: str, ending: str, names: list[str]) -> dict[int, str]:
    """Those of the names that are numbered as parts are, by number."""
    middles = {name: name.removeprefix(f"{stem}-").removesuffix(ending) for name in names}
    return {int(middle): name for name, middle in middles.items() if len(middle) >= 5 and middle.isdecimal()}


def fixed(pattern: str) -> str:
    """The folder of a pattern up to its first special sign, with a slash at its end unless it is empty."""
    special = SPECIAL.search(pattern)
    plain = pattern[: special.start()] if special else pattern
    return plain[: plain.rfind("/") + 1]


def matcher(pattern: str) -> re.Pattern[str]:
    """A pattern as `find` takes it, as a regular expression over whole names."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern)
    meant = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile(
        "".join(meant.get(part) or (part if part.startswith("[") else re.escape(part)) for part in parts)
    )


def _local(file: Path, base: Path) -> Source:
    status = file.stat()
    relative = file.relative_to(base).as_posix()
    return Source(str(file), relative, f"{file.resolve()}:{status.st_size}:{status.st_mtime_ns}")
