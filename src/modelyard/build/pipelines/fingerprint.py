"""What a step's result depends on besides its inputs: its code, what that reaches, and the libraries it uses."""

import functools
import hashlib
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any

from modelyard.build.pipelines.graph import Pipeline, Step
from modelyard.build.pipelines.sources import imported_names, is_installed, static_digests
from modelyard.build.pipelines.stubs import Stub, StubModule

SCALARS = (str, int, float, complex, bool, bytes, type(None), type(...))
SKIPPED = frozenset({"__dict__", "__weakref__", "__module__", "__doc__", "__firstlineno__", "__static_attributes__"})
GENERATED = frozenset({"__dataclass_fields__", "__dataclass_params__"})
"""What a dataclass describes itself by: its defaults and types stand in its methods too."""
MOST_PLAIN = 10_000


class Fingerprints:
    """Fingerprints of functions; every function is looked at once. `version` tells a library's version."""

    def __init__(self, folder: Path, version: Callable[[str], str]) -> None:
        self._folder = folder.resolve()
        self._version = version
        self._known: dict[int, dict[str, str]] = {}
        self._held: list[Any] = []

    def of(self, function: Callable[..., Any]) -> dict[str, str]:
        """Digest by name of the function, every function, class and constant of the project that it reaches, in
        whatever module, and the version of each library. Comments, layout and docstrings do not count.
        """
        if id(function) not in self._known:
            self._known[id(function)] = _Search(self._folder, self._version).over(function)
            self._held.append(function)
        return self._known[id(function)]


class _Search:
    """One walk over everything that a function reaches."""

    def __init__(self, folder: Path, version: Callable[[str], str]) -> None:
        self._folder, self._version = folder, version
        self._found: dict[str, str] = {}
        self._seen: dict[int, Any] = {}

    def over(self, function: Any) -> dict[str, str]:
        if self._is_foreign(function):  # a library's function or class: two of one version are not the same
            self._note(f"{function.__module__}.{function.__qualname__}", "")
        self._value("step", function)
        return self._found

    def _note(self, label: str, text: str) -> None:
        unique, count = label, 1
        while unique in self._found:
            count += 1
            unique = f"{label} #{count}"
        self._found[unique] = hashlib.sha256(text.encode()).hexdigest()[:32]

    def _value(self, label: str, value: Any, names: frozenset[str] = frozenset()) -> None:
        """Take in a value that is reached under a name; `names` are those that the code uses beside it."""
        if isinstance(value, SCALARS):
            self._note(f"value {label}", f"{type(value).__name__} {value!r}")
        elif isinstance(value, StubModule):
            self._library(value.__name__)
        elif isinstance(value, types.ModuleType):
            self._module(value, names)
        elif isinstance(value, Stub):
            self._library(object.__getattribute__(value, "_name"))
        elif id(value) not in self._seen:
            self._seen[id(value)] = value
            self._object(label, value)

    def _object(self, label: str, value: Any) -> None:
        if isinstance(value, Step | Pipeline):
            self._value(label, value.function)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, list | tuple | dict | set | frozenset):
            self._container(label, value)
        elif isinstance(value, classmethod | staticmethod | types.MethodType):
            self._value(label, value.__func__)
            self._value(f"{label} of", getattr(value, "__self__", None))
        elif isinstance(value, property):
            for part in (value.fget, value.fset, value.fdel):
                self._value(label, part)
        elif isinstance(value, functools.partial):
            for part in (value.func, value.args, value.keywords):
                self._value(label, part)
        elif isinstance(value, PurePath):
            self._note(f"value {label}", str(value))
        elif hasattr(value, "__wrapped__"):
            self._value(label, value.__wrapped__)
        else:
            self._instance(label, value)

    def _function(self, function: types.FunctionType) -> None:
        if self._is_foreign(function):
            self._library(function.__module__)
            return
        name = f"{function.__module__}.{function.__qualname__}"
        self._note(f"function {name}", _code(function.__code__))
        for part, held in (("defaults", function.__defaults__), ("defaults", function.__kwdefaults__)):
            if held:
                self._value(f"{name} {part}", held)
        for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            try:
                self._value(f"{name} {variable}", cell.cell_contents)
            except ValueError:  # a cell that is not filled yet
                continue
        used = frozenset(_names(function.__code__))
        for used_name in sorted(used):
            if used_name in function.__globals__:
                self._value(f"{function.__module__}.{used_name}", function.__globals__[used_name], used)
        self._imports(function)

    def _imports(self, function: types.FunctionType) -> None:
        """Modules that a function imports in its body: by their files, whether they are loaded by now or not."""
        package = function.__globals__.get("__package__") or ""
        for code in _codes(function.__code__):
            for name in imported_names(code):
                found = static_digests(name, package)
                if found is None:
                    self._library(name)
                for file, digest in (found or {}).items():
                    self._found[f"module {Path(file).name}"] = digest

    def _class(self, kind: type) -> None:
        if self._is_foreign(kind):
            self._library(kind.__module__)
            return
        name = f"{kind.__module__}.{kind.__qualname__}"
        for base in kind.__bases__:
            if base is not object:
                self._value(name, base)
        members = {
            key: value for key, value in vars(kind).items() if key not in SKIPPED | GENERATED and "_abc_" not in key
        }
        self._note(f"class {name}", repr([sorted(members), sorted(base.__name__ for base in kind.__bases__)]))
        for key, value in sorted(members.items()):
            if key == "__annotations__":
                self._note(f"class {name} fields", repr(list(value)))
            elif not isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
                self._value(f"{name}.{key}", value)

    def _container(self, label: str, value: Any) -> None:
        if isinstance(value, set | frozenset):
            texts = sorted(f"{type(item).__name__} {item!r}" for item in value)
            self._note(f"value {label}", f"{type(value).__name__} {texts}")
            return
        items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        plain = len(items) > MOST_PLAIN or all(isinstance(item, SCALARS) for _, item in items)
        shown = repr(value) if plain else repr([key for key, _ in items])
        self._note(f"value {label}", f"{type(value).__name__} {shown}")
        if not plain:
            for key, item in items:
                self._value(f"{label}[{key!r}]", item)

    def _instance(self, label: str, value: Any) -> None:
        kind = type(value)
        if not self._is_foreign(kind):
            self._value(label, kind)
            slots = [name for base in kind.__mro__ for name in vars(base).get("__slots__", ())]
            held = {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(
                value, "__dict__", {}
            )
            for name, part in sorted(held.items()):
                self._value(f"{label}.{name}", part)
            return
        if kind.__module__ == "builtins" or isinstance(value, types.BuiltinFunctionType):
            self._library(getattr(value, "__module__", None) or "builtins")
            self._note(f"value {label}", getattr(value, "__qualname__", kind.__qualname__))
            return
        self._library(kind.__module__)
        import pickle  # late: few steps reach an object of a library

        try:
            self._note(f"value {label}", hashlib.sha256(pickle.dumps(value, 4)).hexdigest())
        except (TypeError, AttributeError, pickle.PicklingError, NotImplementedError):
            self._note(f"value {label}", os.urandom(16).hex())  # what cannot be compared is never taken for unchanged

    def _module(self, module: types.ModuleType, names: frozenset[str]) -> None:
        if is_installed(module.__name__, getattr(module, "__file__", None)):
            self._library(module.__name__)
            return
        held = vars(module)
        used = [name for name in sorted(names) if name in held and not name.startswith("__")]
        if not used or names & {"getattr", "vars", "__dict__"}:
            used = [name for name in sorted(held) if not name.startswith("__")]
        for name in used:
            value = held[name]
            if value is not module and not (isinstance(value, types.ModuleType) and id(value) in self._seen):
                if isinstance(value, types.ModuleType):
                    self._seen[id(value)] = value
                self._value(f"{module.__name__}.{name}", value, names)

    def _is_foreign(self, thing: Any) -> bool:
        name = getattr(thing, "__module__", None) or "builtins"
        module = sys.modules.get(name)
        return name != "__main__" and is_installed(name, getattr(module, "__file__", None))

    def _library(self, module: str) -> None:
        top = module.partition(".")[0]
        if top not in sys.stdlib_module_names and top != "builtins":
            self._found[f"library {top}"] = self._version(top)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and those inside it: inner functions, lambdas, comprehensions, classes."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _names(code: types.CodeType) -> Iterator[str]:
    for each in _codes(code):
        yield from each.co_names


@functools.cache
def _code(code: types.CodeType) -> str:
    """A code object as text, without its docstring and lines."""
    constants = code.co_consts
    if code.co_name != "<lambda>" and constants and isinstance(constants[0], str):
        constants = ("", *constants[1:])
    parts = [
        code.co_code.hex(),
        code.co_exceptiontable.hex(),
        repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_flags)),
        repr((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)),
        *(_constant(value) for value in constants),
    ]
    return "\n".join(parts)


def _constant(value: Any) -> str:
    if isinstance(value, types.CodeType):
        return _code(value)
    if isinstance(value, frozenset):
        return f"frozenset {sorted(map(_constant, value))}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant, value))})"
    return f"{type(value).__name__} {value!r}"
