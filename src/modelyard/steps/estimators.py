"""Estimators as arguments of steps: by name, class or object, described so that equal ones have equal cache keys."""

import types
from importlib import import_module
from typing import Any, cast

from modelyard.domain.errors import Invalid, MissingExtra

NAMED = ("baseline", "linear", "boosting", "forest")
FEATURES = ("plain", "scaled")
MAKE = "make"


def describe(value: Any) -> Any:
    """An unfitted estimator, and those inside it, as {make: class, params}; any other value as it is.

    A file that an estimator is written to differs each time, a description does not.
    """
    if isinstance(value, type):
        return {MAKE: value, "params": {}}
    return _described(value)


def _described(value: Any) -> Any:
    if hasattr(type(value), "get_params") and not isinstance(value, type):
        params = {name: _described(held) for name, held in value.get_params(deep=False).items()}
        return {MAKE: type(value), "params": params}
    if isinstance(value, list):
        return [_described(item) for item in cast(list[Any], value)]
    if isinstance(value, tuple):
        return tuple(_described(item) for item in cast(tuple[Any, ...], value))
    return value


def build(described: Any) -> Any:
    """The estimator that a description, a dotted name or an object stands for; a new one each time."""
    if isinstance(described, str):
        return _class(described)()
    return _built(describe(described))


def _built(value: Any) -> Any:
    if isinstance(value, dict):
        held = cast(dict[str, Any], value)
        if MAKE in held:
            return held[MAKE](**{name: _built(item) for name, item in held["params"].items()})
        return {name: _built(item) for name, item in held.items()}
    if isinstance(value, list):
        return [_built(item) for item in cast(list[Any], value)]
    if isinstance(value, tuple):
        return tuple(_built(item) for item in cast(tuple[Any, ...], value))
    return value


def _class(name: str) -> type:
    """The class of a dotted name such as `sklearn.linear_model.Ridge`. Raises Invalid, MissingExtra."""
    module, _, attribute = name.rpartition(".")
    remedy = f"Write one of {', '.join(NAMED)}, or a dotted name such as sklearn.linear_model.Ridge."
    if not module:
        raise Invalid(f"There is no estimator {name!r}.", remedy=remedy)
    try:
        found: Any = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "sklearn":
            raise MissingExtra("scikit-learn", "build", "Training") from error
        raise Invalid(
            f"The estimator {name!r} needs {error.name}, which is not installed.", remedy="Install it."
        ) from error
    except AttributeError as error:
        raise Invalid(f"{module} has no {attribute!r}.", remedy=remedy) from error
    if not isinstance(found, type) or isinstance(found, types.FunctionType):
        raise Invalid(f"{name!r} is no class of an estimator.", remedy=remedy)
    return found
