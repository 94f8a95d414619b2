"""skops, loaded in half the time."""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

TRUSTED = "skops.io._trusted_types"
UNWANTED = "sklearn.externals.array_api_compat.torch"
"""Imported when skops looks through all of scikit-learn for estimators; it loads PyTorch, which takes seconds."""


def skops_io() -> Any:
    """The module `skops.io`. Raises ModuleNotFoundError where skops is not installed.

    While it loads, skops names each of NumPy's and SciPy's 400 universal functions, and looks for the module of each
    in every module that is loaded: a second of CPU in a process that has pandas and scikit-learn. Here they are found
    in one pass, to the same names; afterwards skops is as it came. PyTorch is not loaded, where it is installed.
    """
    if "skops.io" in sys.modules:
        return sys.modules["skops.io"]
    finder = _BeforeTrusted()
    sys.meta_path.insert(0, finder)
    kept = sys.modules.get(UNWANTED)
    if kept is None:
        sys.modules[UNWANTED] = None  # type: ignore[assignment]  # an import of it fails, as if it were not there
    try:
        return import_module("skops.io")
    finally:
        sys.meta_path.remove(finder)
        finder.restore()
        if kept is None:
            del sys.modules[UNWANTED]


class _BeforeTrusted:
    """A finder that finds nothing; just before skops lists what it trusts it gives it a quicker lookup."""

    def __init__(self) -> None:
        self._utils: ModuleType | None = None
        self._original: Callable[[Any, str], str] | None = None

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        utils = sys.modules.get("skops.io._utils")
        if name == TRUSTED and utils is not None:
            self._original = getattr(utils, "whichmodule", None)
            if self._original is not None:
                self._utils = utils
                setattr(utils, "whichmodule", _indexed(self._original))  # noqa: B010 - skops declares no such variable

    def restore(self) -> None:
        if self._utils is not None:
            setattr(self._utils, "whichmodule", self._original)  # noqa: B010 - as above


def _indexed(original: Callable[[Any, str], str]) -> Callable[[Any, str], str]:
    """The same answers as `original`, by an index of the universal functions that modules hold by their name."""
    from numpy import ufunc  # late: skops has loaded it

    index: dict[tuple[str, int], str] = {}
    for module_name, module in list(sys.modules.items()):
        if module_name in ("__main__", "__mp_main__") or not isinstance(module, ModuleType):
            continue
        for name, value in list(vars(module).items()):
            if isinstance(value, ufunc) and getattr(value, "__module__", None) is None:
                index.setdefault((name, id(value)), module_name)

    def whichmodule(value: Any, name: str) -> str:
        return index.get((name, id(value))) or original(value, name)

    return whichmodule
