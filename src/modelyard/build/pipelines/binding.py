"""What a function's parameters and annotations say, read from the function itself: inspect would load too much."""

import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from modelyard.domain.errors import Invalid

VARIADIC, VARIADIC_NAMED = 0x04, 0x08


class Parameters:
    """A function's parameters. Raises Invalid for what is no Python function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        code = getattr(function, "__code__", None)
        if not isinstance(code, types.CodeType):
            raise Invalid(f"{function!r} is not a function.", remedy="Put @yard.step above a def.")
        names, count = code.co_varnames, code.co_argcount
        named_only = code.co_kwonlyargcount
        self.positional = names[:count]
        self.only_positional = names[: code.co_posonlyargcount]
        self.only_named = names[count : count + named_only]
        rest = iter(names[count + named_only :])
        self.variadic = next(rest) if code.co_flags & VARIADIC else None
        self.variadic_named = next(rest) if code.co_flags & VARIADIC_NAMED else None
        given: tuple[Any, ...] = getattr(function, "__defaults__", None) or ()
        self.defaults: dict[str, Any] = dict(zip(self.positional[count - len(given) :], given, strict=True))
        self.defaults.update(getattr(function, "__kwdefaults__", None) or {})
        self.names = (*self.positional, *self.only_named)

    def bind(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The given arguments by name; a variadic one holds a list. Raises Invalid as a call raises TypeError."""
        bound: dict[str, Any] = dict(zip(self.positional, args, strict=False))
        if len(args) > len(self.positional):
            if self.variadic is None:
                raise Invalid(f"{name} takes {len(self.positional)} arguments; {len(args)} are given.")
            bound[self.variadic] = list(args[len(self.positional) :])
        for key, value in kwargs.items():
            known = key in self.names and key not in self.only_positional
            if not known and self.variadic_named is None:
                raise Invalid(
                    f"{name} has no parameter {key!r}.", remedy=f"It has: {', '.join(self.names) or 'none'}."
                )
            if key in bound:
                raise Invalid(f"{name} is given {key!r} twice.")
            bound[key] = value
        missing = [key for key in self.names if key not in bound and key not in self.defaults]
        if missing:
            raise Invalid(f"{name} needs {', '.join(missing)}.", remedy="Pass each, or give it a default.")
        return bound

    def call(self, bound: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """(args, kwargs) of the call that `bound` stands for."""
        named = dict(bound)
        rest: list[Any] = list(named.pop(self.variadic, ())) if self.variadic else []
        in_place = self.positional if rest else self.only_positional
        args = [named.pop(key) if key in named else self.defaults[key] for key in in_place if key in bound or rest]
        return [*args, *rest], named


class _Unknown(type):
    """A name that only the type checker knows, such as a library imported under TYPE_CHECKING."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __getitem__(cls, item: Any) -> Any:
        return cls

    def __or__(cls, other: Any) -> Any:
        return Any

    __ror__ = __or__


class Unknown(metaclass=_Unknown):
    """Stands for an annotation that cannot be evaluated; it fits everything."""


class _Names(Mapping[str, Any]):
    """A function's names, with `Unknown` for those that there are not."""

    def __init__(self, function: Callable[..., Any]) -> None:
        module = sys.modules.get(function.__module__)
        self._names: dict[str, Any] = {
            **vars(typing),
            **vars(module or types),
            **getattr(function, "__globals__", {}),
        }
        builtins = self._names.get("__builtins__", {})
        self._builtins: dict[str, Any] = builtins if isinstance(builtins, dict) else vars(builtins)

    def __getitem__(self, name: str) -> Any:
        return self._names.get(name, self._builtins.get(name, Unknown))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """A function's annotations, evaluated; what cannot be is `Unknown`."""
    raw: dict[str, Any] = getattr(function, "__annotations__", {})
    if not any(isinstance(value, str) for value in raw.values()):
        return {name: type(None) if value is None else value for name, value in raw.items()}
    names = _Names(function)
    found: dict[str, Any] = {}
    for name, value in raw.items():
        try:
            evaluated = eval(value, {}, names) if isinstance(value, str) else value
        except (SyntaxError, TypeError, AttributeError, NameError):
            evaluated = Unknown
        found[name] = type(None) if evaluated is None else evaluated
    return found


def several(returned: Any) -> list[Any]:
    """The types of the outputs that `-> tuple[A, B]` or a NamedTuple declares; empty for a single one."""
    arguments = typing.get_args(returned)
    if typing.get_origin(returned) is tuple and arguments and Ellipsis not in arguments:
        return list(arguments)
    names = getattr(returned, "_fields", None)
    if isinstance(returned, type) and issubclass(returned, tuple) and names:
        declared: dict[str, Any] = getattr(returned, "__annotations__", {})
        return [declared.get(name, Any) for name in names]
    return []


def fits(produced: Any, wanted: Any) -> bool:
    """Whether a produced type can be passed; what cannot be judged is let through."""
    if produced is wanted or Unknown in (produced, wanted) or Any in (produced, wanted):
        return True
    if _is_union(wanted):
        return any(fits(produced, option) for option in typing.get_args(wanted))
    if _is_union(produced):
        return any(fits(option, wanted) for option in typing.get_args(produced))
    first, second = typing.get_origin(produced) or produced, typing.get_origin(wanted) or wanted
    if not isinstance(first, type) or not isinstance(second, type):
        return True
    try:
        fine = issubclass(first, second) or (first in (int, bool) and second in (float, complex))
    except TypeError:
        return True
    inner, outer = typing.get_args(produced), typing.get_args(wanted)
    if fine and first in (list, dict) and len(inner) == len(outer):
        return all(fits(one, other) for one, other in zip(inner, outer, strict=True))
    return fine


def _is_union(kind: Any) -> bool:
    return isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union


def item_type(kind: Any) -> Any:
    """The type of a list's items; `Any` when it is not said."""
    arguments = typing.get_args(kind)
    return arguments[0] if arguments and typing.get_origin(kind) is not dict else Any


def type_name(kind: Any) -> str:
    return str(kind) if typing.get_args(kind) else getattr(kind, "__name__", str(kind))
