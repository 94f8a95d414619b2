"""What a column is, and its values as arrays: numbers as floats, everything that is counted as Arrow arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np

from modelyard.deliver.monitoring.categories import category_counts, known
from modelyard.domain.contracts import Kind
from modelyard.domain.errors import Invalid

COUNTED: frozenset[Kind] = frozenset({"categorical", "boolean"})
MOST_CATEGORIES = 1000
"""A text column with more distinct values than this, or mostly of several words, is text and not a category."""
PROBE_ROWS = 2000
PROJECTIONS = 8
SEED = 20_130_101


def kind_of(values: Any) -> Kind:
    """The kind of a column by its type and, for strings, by its first values. values: numpy, pandas or Arrow."""
    dtype = getattr(values, "dtype", None)
    if getattr(values, "ndim", 1) == 2 and dtype is not None and dtype.kind in "fiu":
        return "embedding"
    if isinstance(dtype, np.dtype) and dtype.kind in "fiub":
        return "boolean" if dtype.kind == "b" else "numeric"
    import pyarrow as pa  # late: frames of numbers alone need no Arrow

    array = as_arrow(values[:PROBE_ROWS])
    plain = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if pa.types.is_boolean(plain):
        return "boolean"
    if pa.types.is_integer(plain) or pa.types.is_floating(plain) or pa.types.is_decimal(plain):
        return "numeric"
    if pa.types.is_temporal(plain):
        return "datetime"
    if _is_list(plain):
        return "embedding"
    return _kind_of_strings(array)


def why_not(values: Any) -> str:
    """What a column holds that cannot be compared, in words; empty when it can."""
    import pyarrow as pa  # late: see kind_of

    dimensions = getattr(values, "ndim", 1)
    if dimensions > 2:
        return f"arrays of {dimensions - 1} dimensions, such as images"
    if dimensions == 2 or (isinstance(getattr(values, "dtype", None), np.dtype) and values.dtype.kind in "fiubMm"):
        return ""
    kind = as_arrow(values[:PROBE_ROWS]).type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return "bytes, such as images"
    if pa.types.is_struct(kind) or pa.types.is_map(kind) or pa.types.is_union(kind):
        return "records"
    if _is_list(kind) and not (pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type)):
        return f"lists of {kind.value_type}"
    return ""


def _is_list(kind: Any) -> bool:
    import pyarrow as pa  # late: see kind_of

    return pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind)


def _kind_of_strings(array: Any) -> Kind:
    counts = {text: count for text, count in category_counts(array).items() if text is not None}
    rows, distinct = sum(counts.values()), len(counts)
    if not rows:
        return "categorical"
    spaced = sum(count for text, count in counts.items() if text.count(" ") > 1) / rows
    many = distinct > MOST_CATEGORIES or (distinct > 0.8 * rows and rows >= 100)
    return "text" if many or (spaced > 0.5 and distinct > 50) else "categorical"


def compute() -> Any:
    """Arrow's compute functions, which its type stubs do not list; loaded late: they take a tenth of a second."""
    import pyarrow.compute as functions

    return functions


def as_arrow(values: Any) -> Any:
    """An Arrow array (or chunked array) of a pandas, numpy or Arrow column, without a copy where possible."""
    import pyarrow as pa  # late: see kind_of

    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    inner = getattr(getattr(values, "array", None), "_pa_array", None)
    if inner is not None:
        return inner
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), values.shape[1])
    return pa.array(values, from_pandas=True)


def as_strings(array: Any) -> Any:
    """The array as plain strings; string views and dictionaries are decoded."""
    import pyarrow as pa  # late: see kind_of

    return (
        array if pa.types.is_string(array.type) or pa.types.is_large_string(array.type) else array.cast(pa.string())
    )


def as_numbers(values: Any) -> Any:
    """Values as float64, missing as NaN, shape (rows,)."""
    if isinstance(values, np.ndarray):
        return values.astype(np.float64, copy=False)
    if hasattr(values, "iloc") and getattr(values.dtype, "kind", "") in "fiu":
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    import pyarrow as pa  # late: see kind_of

    array = as_arrow(values)
    if not pa.types.is_float64(array.type):
        array = array.cast(pa.float64())
    if not isinstance(array, pa.ChunkedArray):
        return _floats(array)
    return np.concatenate([_floats(chunk) for chunk in array.chunks] or [np.zeros(0)])


def _floats(array: Any) -> Any:
    """An Arrow array of doubles, by its buffers: Arrow's own way to numpy imports pandas, for half a second."""
    data = array.buffers()[1]
    if data is None or not len(array):
        return np.full(len(array), np.nan)
    values = np.frombuffer(data, np.float64, len(array), array.offset * 8)
    if not array.null_count:
        return values
    return np.where(known(array), values, np.nan)


def expand(name: str, kind: Kind, values: Any) -> dict[str, Any]:
    """What is compared of a column, by name: itself, or numbers that describe it.

    A point in time is always later than the reference, so its hour and weekday are compared; text becomes lengths and
    shares of signs; an embedding its norm, its width and PROJECTIONS fixed random projections. Raises Invalid for
    vectors of several widths.
    """
    if kind == "numeric":
        return {name: as_numbers(values)}
    array = as_arrow(values)
    if kind in COUNTED:
        return {name: array}
    return _DESCRIBED[kind](name, array)


def _describe_time(name: str, array: Any) -> dict[str, Any]:
    import pyarrow as pa  # late: see kind_of

    pc = compute()

    if pa.types.is_time(array.type) or pa.types.is_duration(array.type):
        return {name: as_numbers(array.cast(pa.int64()))}
    found = {f"{name}.weekday": as_numbers(pc.day_of_week(array))}
    if not pa.types.is_date(array.type):
        found[f"{name}.hour"] = as_numbers(pc.hour(array))
    return found


def _describe_text(name: str, array: Any) -> dict[str, Any]:
    pc = compute()

    text = as_strings(array)
    length = as_numbers(pc.utf8_length(text))
    size = np.maximum(length, 1)

    def share(pattern: str) -> Any:
        return as_numbers(pc.count_substring_regex(text, pattern)) / size

    return {
        f"{name}.length": length,
        f"{name}.words": as_numbers(pc.count_substring_regex(text, r"\S+")),
        f"{name}.digits": share(r"[0-9]"),
        f"{name}.capitals": share(r"[A-Z]"),
        f"{name}.signs": share(r"[^\w\s]"),
        f"{name}.not_ascii": share(r"[^\x00-\x7F]"),
    }


def _describe_embedding(name: str, array: Any) -> dict[str, Any]:
    import pyarrow as pa  # late: see kind_of

    pc = compute()
    whole = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    widths = as_numbers(pc.list_value_length(whole))
    held = ~np.isnan(widths)
    width = int(widths[held][0]) if held.any() else 1
    if (widths[held] != width).any():
        other = int(widths[held][widths[held] != width][0])
        raise Invalid(
            f"{name} holds vectors of {width} numbers and of {other}.", remedy="Embed all rows by one model."
        )
    flat = whole.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    vectors = flat.reshape(-1, width) if width else np.zeros((int(held.sum()), 1))
    random = np.random.default_rng(SEED).normal(size=(vectors.shape[1], PROJECTIONS)) / np.sqrt(vectors.shape[1])
    projected = np.full((len(whole), PROJECTIONS + 1), np.nan)
    projected[held, 1:], projected[held, 0] = vectors @ random, np.linalg.norm(vectors, axis=1)
    found = {f"{name}.norm": projected[:, 0].copy(), f"{name}.width": widths}
    return found | {f"{name}.direction{n}": projected[:, n + 1].copy() for n in range(PROJECTIONS)}


_DESCRIBED: dict[Kind, Callable[[str, Any], dict[str, Any]]] = {
    "datetime": _describe_time,
    "text": _describe_text,
    "embedding": _describe_embedding,
}
