"""The Python environment of a run: which distribution and version each importable module comes from."""

import json
import os
import sys
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
        return self._read()["modules"].get(top, "unknown")

    def _read(self) -> dict[str, Any]:
        if self._held is None:
            stamp = _stamp()
            try:
                held = json.loads(self._file.read_bytes())
            except (FileNotFoundError, ValueError):
                held = {}
            if held.get("stamp") != stamp:
                held = {"stamp": stamp, **_scan()}
                self._file.parent.mkdir(parents=True, exist_ok=True)
                temporary = self._file.with_name(f".{self._file.name}.{os.getpid()}")
                temporary.write_text(json.dumps(held))
                os.replace(temporary, self._file)
            self._held = held
            return held
        return self._held


def _stamp() -> list[Any]:
    folders = [path for path in sys.path if path.endswith("-packages")]
    return [sys.version, sys.prefix, *([path, os.stat(path).st_mtime_ns] for path in folders if os.path.isdir(path))]


def _scan() -> dict[str, Any]:
    from importlib import metadata  # late: it takes longer than a cached run

    packages: dict[str, str] = {}
    modules: dict[str, str] = {}
    for found in metadata.distributions():
        name = found.metadata["Name"]
        if not name or name in packages:
            continue
        packages[name] = found.version
        for top in _tops(found):
            modules.setdefault(top, f"{name} {found.version}")
    return {"python": sys.version.split()[0], "packages": dict(sorted(packages.items())), "modules": modules}


def _tops(found: Any) -> set[str]:
    """The top-level modules of a distribution."""
    listed = found.read_text("top_level.txt")
    if listed:
        return {line.strip() for line in listed.splitlines() if line.strip()}
    tops = {file.parts[0] for file in found.files or [] if file.suffix in (".py", ".so", ".pyd")}
    return {top.partition(".")[0] for top in tops if not top.startswith(("..", "__"))}
