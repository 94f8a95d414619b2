"""A project's modules are never run from bytecode that an edit has left behind.

Python takes a module's kept bytecode for current when the source still has its length and was changed in the same
second: an edit right after a run that keeps the length (a 1 for a 2) would run, and be keyed as, the
code before it.
"""

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.importlib import PathEntryFinderProtocol as PathEntryFinder


class FreshLoader(SourceFileLoader):
    """Loads a source file; bytecode written within the second of the file's last change is made anew."""

    def get_data(self, path: str) -> bytes:
        if path.endswith(".pyc") and os.stat(path).st_mtime < int(os.stat(self.path).st_mtime) + 1:
            raise OSError(f"{path} may be of the source before its last change")
        return super().get_data(path)


def open_project(project: Path) -> None:
    """Make the project's folder importable, first on the path; its modules load by `FreshLoader`."""
    folder = str(project)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if folder in _open:
        return
    _open.add(folder)
    if _finder not in sys.path_hooks:
        sys.path_hooks.insert(0, _finder)
    for held in [place for place in sys.path_importer_cache if _is_own(place)]:
        del sys.path_importer_cache[held]


_open: set[str] = set()
_find = FileFinder.path_hook((ExtensionFileLoader, EXTENSION_SUFFIXES), (FreshLoader, SOURCE_SUFFIXES))


def _finder(place: str) -> "PathEntryFinder":
    if not _is_own(place):
        raise ImportError(f"{place} is not a project's")
    return _find(place)


def _is_own(place: str) -> bool:
    return "-packages" not in place and any(place == each or place.startswith(each + os.sep) for each in _open)
