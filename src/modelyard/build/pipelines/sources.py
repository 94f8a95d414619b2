"""Which modules belong to the project, and what files an import leads to, without importing anything."""

import functools
import hashlib
import os
import sys
import types
from collections.abc import Iterator
from importlib.machinery import PathFinder
from opcode import opmap

IMPORT, EXTENDED = opmap["IMPORT_NAME"], opmap["EXTENDED_ARG"]
OWN = "modelyard"


@functools.cache
def is_installed(module: str, file: str | None) -> bool:
    """Whether a module is Python's own, ours, or installed; else its code counts as the project's."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top in (OWN, "builtins"):
        return True
    return file is not None and "-packages" in file


def imported_names(code: types.CodeType) -> Iterator[str]:
    """Names of the modules that a code object's own lines import."""
    raw, extended = code.co_code, 0
    for position in range(0, len(raw), 2):
        operation, argument = raw[position], raw[position + 1] | extended
        extended = argument << 8 if operation == EXTENDED else 0
        if operation == IMPORT:
            yield code.co_names[argument]


@functools.cache
def _find(name: str) -> str | None:
    """The file of a module of the project by its dotted name; None when there is none, or it is installed."""
    path: list[str] | None = None
    origin: str | None = None
    for part in name.split("."):
        spec = PathFinder.find_spec(part, path)
        if spec is None:
            return None
        origin, path = spec.origin, list(spec.submodule_search_locations or [])
    return None if origin is None or is_installed(name, origin) else origin


def static_digests(name: str, package: str = "") -> dict[str, str] | None:
    """Digest by file of a project module and of the project modules that it imports; None for an installed one."""
    if name.partition(".")[0] in sys.stdlib_module_names:
        return {}
    file = _find(name) or (_find(f"{package}.{name}") if package else None)
    if file is None:
        return None
    found: dict[str, str] = {}
    _collect(file, package, found)
    return found


def _collect(file: str, package: str, found: dict[str, str]) -> None:
    import ast  # late: only imports inside functions need it

    if file in found:
        return
    with open(file, "rb") as stream:
        source = stream.read()
    found[file] = hashlib.sha256(source).hexdigest()[:32]
    folder = os.path.basename(os.path.dirname(file))
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [package or folder if node.level else "", node.module or ""]))
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            inner = _find(name) if name and name.partition(".")[0] not in sys.stdlib_module_names else None
            if inner is not None:
                _collect(inner, package, found)
