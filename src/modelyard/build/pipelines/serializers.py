"""How step outputs become files: one typed format a kind, nothing pickled silently."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.domain.errors import Invalid


class Serializer(NamedTuple):
    """A format: whether it takes a value, how it is written and read."""

    name: str
    takes: Callable[[Any], bool]
    save: Callable[[Any, Path], None]
    load: Callable[[Path], Any]
    exact: Callable[[Any], bool] = lambda value: True
    """Whether what is read back is what was written to the last detail; else readers get what was read back."""


_custom: list[Serializer] = []


def register_serializer(
    name: str, kind: type, save: Callable[[Any, Path], None], load: Callable[[Path], Any]
) -> None:
    """Teach pipelines a type: `save(value, path)` writes one file, `load(path)` reads it back."""
    _custom.append(Serializer(name, lambda value: isinstance(value, kind), save, load))


def for_value(value: Any) -> Serializer:
    """The format that takes a value. Raises Invalid that says how to add one."""
    for serializer in (*_custom, *BUILT_IN):
        if serializer.takes(value):
            return serializer
    raise Invalid(
        f"A step returned {type(value).__module__}.{type(value).__qualname__}, which has no serializer.",
        remedy="Return a frame, an array, JSON values, a dataclass or a scikit-learn estimator, or teach it: "
        "yard.register_serializer(name, type, save, load).",
    )


def named(name: str) -> Serializer:
    for serializer in (*_custom, *BUILT_IN):
        if serializer.name == name:
            return serializer
    raise Invalid(
        f"A cached output has the format {name!r}, which is not registered.", remedy="Register its serializer."
    )


def is_a(value: Any, *names: str) -> bool:
    """Whether a value's class, or one that it derives from, has one of these full names; imports nothing."""
    return any(f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}" in names for kind in type(value).__mro__)


def is_plain(value: Any) -> bool:
    """Whether JSON gives a value back as it was."""
    if isinstance(value, dict):
        return type(value) is dict and all(type(key) is str and is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return type(value) is list and all(is_plain(item) for item in value)
    return value is None or type(value) in (str, int, float, bool)


def _save_json(value: Any, path: Path) -> None:
    path.write_text(json.dumps(value, allow_nan=True))


def _load_json(path: Path) -> Any:
    return json.loads(path.read_text())


def _save_bytes(value: bytes, path: Path) -> None:
    path.write_bytes(value)


def _takes_dataclass(value: Any) -> bool:
    return is_dataclass(value) and is_plain(fields_of(value))


def is_dataclass(value: Any) -> bool:
    """Whether a value is of a dataclass that can be found again by its name."""
    kind = type(value)
    return hasattr(kind, "__dataclass_fields__") and "<locals>" not in kind.__qualname__


def fields_of(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in type(value).__dataclass_fields__}


def class_name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def class_named(name: str) -> Any:
    module, _, path = name.partition(":")
    kind: Any = import_module(module)
    for part in path.split("."):
        kind = getattr(kind, part)
    return kind


def _save_dataclass(value: Any, path: Path) -> None:
    _save_json({"class": class_name(type(value)), "fields": fields_of(value)}, path)


def _load_dataclass(path: Path) -> Any:
    held = _load_json(path)
    return make(class_named(held["class"]), held["fields"])


def make(kind: Any, fields: dict[str, Any]) -> Any:
    """An object of a dataclass or named tuple from all its fields."""
    declared: dict[str, Any] = getattr(kind, "__dataclass_fields__", {})
    late = {name for name, field in declared.items() if not field.init}
    made = kind(**{name: value for name, value in fields.items() if name not in late})
    for name in late:
        object.__setattr__(made, name, fields[name])
    return made


def _takes_moment(value: Any) -> bool:
    return f"{type(value).__module__}.{type(value).__qualname__}" in ("datetime.datetime", "datetime.date")


def _save_moment(value: Any, path: Path) -> None:
    _save_json([type(value).__name__, value.isoformat()], path)


def _load_moment(path: Path) -> Any:
    import datetime  # late: few steps return one

    kind, text = _load_json(path)
    return getattr(datetime, kind).fromisoformat(text)


def _late(function: str) -> Any:
    """A function of the formats that need a library, found when it is first called."""

    def call(*args: Any) -> Any:
        return getattr(import_module("modelyard.build.pipelines.formats"), function)(*args)

    return call


BUILT_IN = (
    Serializer("json", is_plain, _save_json, _load_json),
    Serializer("bytes", lambda value: type(value) is bytes, _save_bytes, Path.read_bytes),
    Serializer(
        "arrow",
        lambda value: is_a(value, "pandas.DataFrame", "pandas.Series"),
        _late("save_frame"),
        _late("load_frame"),
        _late("frame_is_exact"),
    ),
    Serializer("arrow-table", lambda value: is_a(value, "pyarrow.Table"), _late("save_table"), _late("load_table")),
    Serializer("polars", lambda value: is_a(value, "polars.DataFrame"), _late("save_polars"), _late("load_polars")),
    Serializer(
        "npy",
        lambda value: is_a(value, "numpy.ndarray", "numpy.generic") and _late("takes_array")(value),
        _late("save_array"),
        _late("load_array"),
    ),
    Serializer("dataclass", _takes_dataclass, _save_dataclass, _load_dataclass),
    Serializer("datetime", _takes_moment, _save_moment, _load_moment),
    Serializer(
        "npz",
        lambda value: is_a(value, "scipy.sparray", "scipy.spmatrix"),
        _late("save_sparse"),
        _late("load_sparse"),
    ),
    Serializer(
        "skops", lambda value: is_a(value, "sklearn.BaseEstimator"), _late("save_estimator"), _late("load_estimator")
    ),
)
