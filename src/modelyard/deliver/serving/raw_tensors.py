"""Tensors as raw bytes (the binary extension): little-endian, row-major; text as length and bytes for each."""

import struct
from typing import Any

import numpy as np

from modelyard.deliver.serving.errors import BadInput

DTYPES: dict[str, Any] = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
LENGTH = struct.Struct("<I")


def decode(name: str, datatype: str, shape: list[int], raw: memoryview, size: int) -> Any:
    """The array in `size` raw bytes. Raises BadInput when they do not fill the shape."""
    if datatype not in DTYPES:
        raise BadInput(f"Tensor {name!r}: the datatype {datatype[:40]!r} is not known; one of {', '.join(DTYPES)}.")
    if len(raw) < size:
        raise BadInput(f"Tensor {name!r}: {size} bytes were announced, {len(raw)} came.")
    if datatype == "BYTES":
        flat = np.array([*_texts(name, raw), None], dtype=object)[:-1]
    else:
        dtype = np.dtype(DTYPES[datatype]).newbyteorder("<")
        if size % dtype.itemsize:
            raise BadInput(f"Tensor {name!r}: {size} bytes are no whole number of {datatype}.")
        flat = np.frombuffer(raw, dtype=dtype)
    try:
        return flat.reshape(shape)
    except ValueError:
        raise BadInput(f"Tensor {name!r}: its data does not fill the shape {shape}.") from None


def _texts(name: str, raw: memoryview) -> list[str]:
    found: list[str] = []
    start = 0
    while start < len(raw):
        if len(raw) - start < LENGTH.size:
            raise BadInput(f"Tensor {name!r}: its last text is cut off.")
        (length,) = LENGTH.unpack_from(raw, start)
        start += LENGTH.size
        if len(raw) - start < length:
            raise BadInput(f"Tensor {name!r}: its last text is cut off.")
        try:
            found.append(bytes(raw[start : start + length]).decode())
        except UnicodeDecodeError:
            raise BadInput(f"Tensor {name!r}: a text is not UTF-8.") from None
        start += length
    return found


def encode(array: Any) -> bytes:
    """The array's raw bytes."""
    if array.dtype.kind in "OUS":
        texts = [b"" if value is None else str(value).encode() for value in array.reshape(-1)]
        return b"".join(LENGTH.pack(len(text)) + text for text in texts)
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
