"""The Python environment of a run: which distribution and version each importable module comes from."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelyard.kit.hashing import digest_json

OWN = "modelyard"


class Environment:
    """What is installed, read once and kept in `file` until a folder of packages changes."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._held: dict[str, Any] | None = None

    @property
    def packages(self) -> dict[str, str]:
        """Version by distribution: the lock that is recorded with each run."""
        return self._read()["packages"]

    @property
    def digest(self) -> str:
        return digest_json([self._read()["python"], self.packages])

    def version(self, module: str) -> str:
        """`scikit-learn 1.9.1` for `sklearn.linear_model`; `unknown` when nothing installed provides it."""
        top = module.partition(".")[0]
        if top == OWN:
            import modelyard

            return f"{OWN} {modelyard.__version__}"
        held = self._read()
        if "modules" not in held:
            held["modules"] = modules()
            self._keep(held)
        return held["modules"].get(top, "unknown")

    def _read(self) -> dict[str, Any]:
        if self._held is None:
            stamp = _stamp()
            try:
                held = json.loads(self._file.read_bytes())
            except (FileNotFoundError, ValueError):
                held = {}
            if held.get("stamp") != stamp:
                packages = {name: version for _, name, version in _distributions()}
                held = {"stamp": stamp, "python": sys.version.split()[0], "packages": dict(sorted(packages.items()))}
                self._keep(held)
            self._held = held
            return held
        return self._held

    def _keep(self, held: dict[str, Any]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        temporary.write_text(json.dumps(held))
        os.replace(temporary, self._file)


def _folders() -> list[str]:
    return [path for path in sys.path if path.endswith("-packages") and os.path.isdir(path)]


def _stamp() -> list[Any]:
    return [sys.version, sys.prefix, *([path, os.stat(path).st_mtime_ns] for path in _folders())]


def _distributions() -> Iterator[tuple[str, str, str]]:
    """(folder of its metadata, name, version) of what is installed, as the folders' names tell: importlib.metadata
    would read every file, which takes longer than ten trivial steps. The first of a name on the path counts.
    """
    seen: set[str] = set()
    for folder in _folders():
        for entry in sorted(os.listdir(folder)):
            stem, dot, kind = entry.rpartition(".")
            name, dash, version = stem.partition("-")
            if not (dot and dash and kind in ("dist-info", "egg-info")):
                continue
            name = name.replace("_", "-").replace(".", "-").lower()
            if name not in seen:
                seen.add(name)
                yield os.path.join(folder, entry), name, version.partition("-")[0]


def modules() -> dict[str, str]:
    """`scikit-learn 1.9.1` by importable top-level module."""
    found: dict[str, str] = {}
    for place, name, version in _distributions():
        for top in _tops(place):
            found.setdefault(top, f"{name} {version}")
    return found


def _tops(place: str) -> set[str]:
    """The top-level modules of a distribution, from its record of files or its own list."""
    listed = _lines(os.path.join(place, "top_level.txt"))
    if listed:
        return set(listed)
    tops: set[str] = set()
    for line in _lines(os.path.join(place, "RECORD")):
        path = line.partition(",")[0]
        if path.endswith((".py", ".so", ".pyd")) and not path.startswith(("..", "__")):
            tops.add(path.partition("/")[0].partition(".")[0])
    return tops


def _lines(file: str) -> list[str]:
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            return [line.strip() for line in stream if line.strip()]
    except OSError:
        return []
