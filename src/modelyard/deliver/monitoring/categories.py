"""Columns that are counted: rows of each category, and categories as numbers."""

from typing import Any

import numpy as np


def category_counts(values: Any) -> dict[str | None, int]:
    """Rows of each category as text; None holds the missing ones. values: an Arrow array."""
    import pyarrow as pa  # late: frames of numbers alone need no Arrow

    texts: dict[str | None, int] = {}
    for chunk in getattr(values, "chunks", [values]):
        short = pa.types.is_dictionary(chunk.type) and len(chunk.dictionary) <= len(chunk)
        for name, count in _by_codes(chunk) if short else _by_values(chunk):
            key = None if name is None else category_text(name)
            texts[key] = texts.get(key, 0) + count
    return texts


def _by_codes(array: Any) -> list[tuple[Any, int]]:
    counts = np.bincount(codes(array) + 1, minlength=len(array.dictionary) + 1).tolist()
    return [found for found in zip([None, *array.dictionary.to_pylist()], counts, strict=True) if found[1]]


def _by_values(array: Any) -> list[tuple[Any, int]]:
    import pyarrow as pa  # late: see category_counts

    if pa.types.is_string_view(array.type) or pa.types.is_binary_view(array.type):
        array = array.cast(pa.large_string())
    found = array.value_counts()
    names = found.field(0)
    if pa.types.is_dictionary(names.type):
        names = names.dictionary_decode()
    return list(zip(names.to_pylist(), found.field(1).to_pylist(), strict=True))


def category_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def codes(array: Any) -> Any:
    """Where each value of an Arrow dictionary array stands in its dictionary, -1 for a missing one, shape (rows,)."""
    indices = array.indices
    data = indices.buffers()[1]
    dtype = np.dtype(str(indices.type))
    if data is None or not len(indices):
        return np.full(len(indices), -1, np.int64)
    found = np.frombuffer(data, dtype, len(indices), indices.offset * dtype.itemsize).astype(np.int64)
    return np.where(known(indices), found, -1) if indices.null_count else found


def known(array: Any) -> Any:
    """Which values of an Arrow array are not missing, by its buffers: Arrow's own way to numpy imports pandas."""
    valid = array.buffers()[0]
    if valid is None:
        return np.ones(len(array), bool)
    bits = np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")
    return bits[array.offset :][: len(array)].view(bool)
