"""What a step's result depends on besides its inputs: its code, what that reaches, and the libraries it uses."""

import ast
import hashlib
import inspect
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from modelyard.build.pipelines.graph import Pipeline, Step
from modelyard.kit.hashing import digest_json


class Fingerprints:
    """Fingerprints of functions of the project in `folder`; each piece of code is read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._versions: dict[str, str] = {}

    def of(self, function: Callable[..., Any]) -> str:
        """SHA-256 over the function's code, every project function, class and constant that it reaches, in whatever
        module, and the versions of the libraries that these name. Comments and docstrings do not count.
        """
        found: dict[str, str] = {}
        self._visit(function, found)
        return digest_json(found)

    def _visit(self, thing: Any, found: dict[str, str]) -> None:
        if isinstance(thing, Step | Pipeline):
            thing = thing.function
        key = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', repr(thing))}"
        if key in found:
            return
        if isinstance(thing, type):
            found[key] = _normal(inspect.getsource(thing))
            for member in vars(thing).values():
                function = getattr(member, "__func__", member)
                if isinstance(function, types.FunctionType):
                    self._names(function, found)
        elif isinstance(thing, types.FunctionType):
            found[key] = _normal(inspect.getsource(thing))
            self._names(thing, found)

    def _names(self, function: types.FunctionType, found: dict[str, str]) -> None:
        closure = inspect.getclosurevars(function)
        reached = {**closure.nonlocals}
        for name in _names_in(function.__code__):
            if name in function.__globals__:
                reached[name] = function.__globals__[name]
        for name, value in sorted(reached.items()):
            self._reach(f"{function.__module__}:{name}", value, found)
        for module in _imports_in(function):
            self._library(module, found)

    def _reach(self, key: str, value: Any, found: dict[str, str]) -> None:
        if isinstance(value, types.ModuleType):
            if self._is_project(value):
                found[f"module {value.__name__}"] = _file_digest(value)
            else:
                self._library(value.__name__, found)
            return
        module = sys.modules.get(getattr(value, "__module__", None) or "")
        if isinstance(value, Step | Pipeline | type | types.FunctionType):
            if module is not None and self._is_project(module):
                self._visit(value, found)
            elif module is not None:
                self._library(module.__name__, found)
        elif isinstance(value, str | int | float | bool | bytes | tuple | list | dict | set | frozenset | type(None)):
            found[f"constant {key}"] = repr(sorted(value, key=repr) if isinstance(value, set | frozenset) else value)

    def _is_project(self, module: types.ModuleType) -> bool:
        file = getattr(module, "__file__", None)
        return file is not None and Path(file).resolve().is_relative_to(self._folder) and "site-packages" not in file

    def _library(self, module: str, found: dict[str, str]) -> None:
        top = module.partition(".")[0]
        if top in sys.stdlib_module_names or top == "modelyard":
            return
        if top not in self._versions:
            loaded = sys.modules.get(top)
            version = getattr(loaded, "__version__", None)
            try:
                self._versions[top] = str(version or metadata.version(top))
            except metadata.PackageNotFoundError:
                self._versions[top] = "unknown"
        found[f"library {top}"] = self._versions[top]


def _names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)


def _imports_in(function: types.FunctionType) -> list[str]:
    """Modules that a function imports in its body."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return names


def _normal(source: str) -> str:
    """The source without comments, docstrings and layout, as a digest."""
    tree = ast.parse(textwrap.dedent(source))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            first.value.value = ""
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _file_digest(module: types.ModuleType) -> str:
    return hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()
