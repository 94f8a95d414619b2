"""Stand-ins for installed libraries, so that a run which finds everything in the cache loads none of them.

The project's modules are executed with stand-ins that may be named, in annotations and in the bodies of functions,
and nothing else: whatever is done with one raises `Used`, and the caller loads the modules again for real. So the
graph is the same either way, or it is built the slow way.
"""

import sys
import types
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any, NoReturn

from modelyard.build.pipelines.sources import is_installed


class Used(BaseException):  # not an Exception: the user's code must not catch it
    """A stand-in was used for more than its name."""


def _used(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
    raise Used


class Stub:
    """Something of a library that is not loaded."""

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def __getattr__(self, name: str) -> "Stub":
        if name.startswith("__"):
            raise AttributeError(name) if name in ("__wrapped__", "__set_name__", "__get__") else Used
        return Stub(f"{object.__getattribute__(self, '_name')}.{name}")

    def __getitem__(self, item: Any) -> "Stub":
        return self

    def __or__(self, other: Any) -> "Stub":
        return self

    __ror__ = __or__
    __call__ = __setattr__ = __delattr__ = __iter__ = __len__ = __bool__ = __str__ = __repr__ = __format__ = _used
    __instancecheck__ = __subclasscheck__ = __mro_entries__ = __contains__ = __setitem__ = __index__ = _used
    __add__ = __radd__ = __sub__ = __mul__ = __rmul__ = __truediv__ = __neg__ = __float__ = __int__ = _used
    __lt__ = __le__ = __gt__ = __ge__ = __enter__ = __fspath__ = __matmul__ = __pow__ = __mod__ = _used  # pyright: ignore


class StubModule(types.ModuleType):
    """A library's module that is not loaded."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            if name == "__path__":
                raise AttributeError(name)
            raise Used
        return Stub(f"{self.__name__}.{name}")

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("__") and not isinstance(value, StubModule):
            raise Used
        super().__setattr__(name, value)


class _Loader:
    """What importlib asks of a loader; its base class would load much of the standard library."""

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return StubModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing is executed."""


class _Finder:
    """Answers for installed libraries that are not loaded yet."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        top = fullname.partition(".")[0]
        if top in sys.stdlib_module_names or top == "modelyard":
            return None
        if path is None and top != fullname:
            return None
        found = PathFinder.find_spec(fullname, path)
        if found is None or not is_installed(fullname, found.origin):
            return None
        parent = sys.modules.get(fullname.rpartition(".")[0])
        if parent is not None and not isinstance(parent, StubModule):
            return None
        loader: Any = _Loader()
        spec = ModuleSpec(fullname, loader, is_package=found.submodule_search_locations is not None)
        spec.submodule_search_locations = found.submodule_search_locations
        return spec


@contextmanager
def stubbed() -> Generator[None, None, None]:
    """Import with stand-ins; whatever was imported is forgotten afterwards, unless it was there before."""
    before = set(sys.modules)
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in set(sys.modules) - before:
            module = sys.modules[name]
            if isinstance(module, StubModule) or not is_installed(name, getattr(module, "__file__", None)):
                del sys.modules[name]
