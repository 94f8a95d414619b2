"""How step outputs become files: one typed format a kind, nothing pickled silently."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from modelyard.domain.errors import Invalid


@dataclass(frozen=True)
class Serializer:
    """A format: whether it takes a value, how it is written and read."""

    name: str
    takes: Callable[[Any], bool]
    save: Callable[[Any, Path], None]
    load: Callable[[Path], Any]


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
        "modelyard.build.pipelines.serializers.register_serializer(...).",
    )


def named(name: str) -> Serializer:
    for serializer in (*_custom, *BUILT_IN):
        if serializer.name == name:
            return serializer
    raise Invalid(
        f"A cached output has the format {name!r}, which is not registered.", remedy="Register its serializer."
    )


def _is(value: Any, *names: str) -> bool:
    """Whether a value's class, or one that it derives from, has one of these full names; imports nothing."""
    return any(f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}" in names for kind in type(value).__mro__)


def _save_frame(value: Any, path: Path) -> None:
    import pyarrow as pa  # late: only pipelines with frames need it

    series = _is(value, "pandas.Series")
    table = pa.Table.from_pandas(value.to_frame("value") if series else value, preserve_index=None)
    described = {**(table.schema.metadata or {}), b"modelyard": b"series" if series else b"frame"}
    table = table.replace_schema_metadata(described)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _load_frame(path: Path) -> Any:
    import pyarrow as pa  # late: see above

    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
        frame = table.to_pandas()
        return frame["value"] if (table.schema.metadata or {}).get(b"modelyard") == b"series" else frame


def _save_array(value: Any, path: Path) -> None:
    import numpy as np  # late: see above

    with path.open("wb") as stream:
        np.save(stream, value, allow_pickle=False)


def _load_array(path: Path) -> Any:
    import numpy as np  # late: see above

    return np.load(path, allow_pickle=False)


def _takes_array(value: Any) -> bool:
    return _is(value, "numpy.ndarray") and value.dtype.kind != "O"


def _save_estimator(value: Any, path: Path) -> None:
    import skops.io  # late: see above

    skops.io.dump(value, path)


def _load_estimator(path: Path) -> Any:
    import skops.io  # late: see above

    # the file is this machine's own cache, checked by digest: what it holds was an object of this pipeline
    return skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(_plain(item) for item in value)
    return value is None or (isinstance(value, str | int | float | bool) and type(value) in (str, int, float, bool))


def _save_json(value: Any, path: Path) -> None:
    path.write_text(json.dumps(value, allow_nan=True))


def _load_json(path: Path) -> Any:
    return json.loads(path.read_text())


def _takes_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type) and _plain(_fields(value))


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _save_dataclass(value: Any, path: Path) -> None:
    kind = type(value)
    _save_json({"class": f"{kind.__module__}:{kind.__qualname__}", "fields": _fields(value)}, path)


def _load_dataclass(path: Path) -> Any:
    held = _load_json(path)
    module, _, name = held["class"].partition(":")
    kind: Any = import_module(module)
    for part in name.split("."):
        kind = getattr(kind, part)
    return kind(**held["fields"])


BUILT_IN = (
    Serializer("json", _plain, _save_json, _load_json),
    Serializer("arrow", lambda value: _is(value, "pandas.DataFrame", "pandas.Series"), _save_frame, _load_frame),
    Serializer("npy", _takes_array, _save_array, _load_array),
    Serializer("dataclass", _takes_dataclass, _save_dataclass, _load_dataclass),
    Serializer("skops", lambda value: _is(value, "sklearn.BaseEstimator"), _save_estimator, _load_estimator),
)
