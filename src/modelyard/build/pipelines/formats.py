"""The formats of frames, arrays and estimators. Every library is imported by the function that needs it."""

import json
import mmap
from pathlib import Path
from typing import Any

from modelyard.build.pipelines.serializers import is_a
from modelyard.kit.quick_skops import skops_io

DESCRIPTION = b"modelyard"
"""The key of our own metadata in an Arrow schema: frame or series, the series' name, the columns of dtype object."""
LARGE = 64 << 20
"""Bytes of a file from which on a frame's columns are mapped, not copied."""
WORTH_MAPPING = 1 << 20
"""Bytes of a column from which on it is a block of its own in the frame."""
NUMBERS = frozenset(f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64))


def save_frame(value: Any, path: Path) -> None:
    """A pandas frame or series as an Arrow IPC file, its index and dtypes described beside it."""
    import pyarrow as pa

    frame = value
    described: dict[str, Any] = {"kind": "frame"}
    if is_a(value, "pandas.Series"):
        described = {"kind": "series", "name": value.name}
        frame = value.to_frame("value")
    described["objects"] = [str(name) for name, kind in frame.dtypes.items() if kind == "object"]
    table = pa.Table.from_pandas(frame, preserve_index=None)
    metadata = {**(table.schema.metadata or {}), DESCRIPTION: json.dumps(described).encode()}
    write_table(table.replace_schema_metadata(metadata), path)


def load_frame(path: Path) -> Any:
    """The frame of a file. Plain columns of a large one are the file itself, mapped: what is read is not copied, and
    what is changed becomes this process's own.
    """
    import pyarrow as pa

    if path.stat().st_size >= LARGE:
        with path.open("rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        table = pa.ipc.open_file(pa.py_buffer(mapped)).read_all()
        frame = _mapped_frame(table, mapped)
    else:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
            frame = table.to_pandas()
    described = json.loads((table.schema.metadata or {})[DESCRIPTION])
    for name in described["objects"]:
        if frame[name].dtype != "object":
            column = frame[name].astype("object")
            frame[name] = column.where(column.notna(), None)
    return frame["value"].rename(described["name"]) if described["kind"] == "series" else frame


def _mapped_frame(table: Any, mapped: mmap.mmap) -> Any:
    """The frame of a table that lies in `mapped`; columns of numbers without a missing one are views of it."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    start = pa.py_buffer(mapped).address
    views: dict[str, Any] = {}
    described = table.schema.pandas_metadata
    if [level["pandas_type"] for level in described["column_indexes"]] != ["unicode"]:
        return table.to_pandas()  # its columns are no plain texts
    index = [name for name in described["index_columns"] if isinstance(name, str)]
    columns = [each for each in described["columns"] if each["field_name"] not in index]
    for name, field, kind in ((each["name"], each["field_name"], each["numpy_type"]) for each in columns):
        if name != field or kind not in NUMBERS:
            continue
        column = table.column(name)
        if column.num_chunks == 1 and column.null_count == 0 and column.nbytes >= WORTH_MAPPING:
            chunk, dtype = column.chunk(0), np.dtype(kind)
            offset = chunk.buffers()[1].address - start + chunk.offset * dtype.itemsize
            views[name] = np.frombuffer(mapped, dtype, len(chunk), offset)
    rest = table.drop_columns(list(views)).to_pandas()
    order = [each["name"] for each in columns]
    if not views or list(rest.columns) != [name for name in order if name not in views]:
        return table.to_pandas()
    frame = pd.DataFrame({name: views.get(name, rest.get(name)) for name in order}, index=rest.index, copy=False)
    return frame.rename_axis(columns=rest.columns.name)


def frame_is_exact(value: Any) -> bool:
    """Columns of Python objects may come back as another kind of missing value."""
    kinds = [value.dtype] if is_a(value, "pandas.Series") else list(value.dtypes)
    return all(kind != "object" for kind in kinds) and not getattr(value, "attrs", None)


def write_table(table: Any, path: Path) -> None:
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def save_table(value: Any, path: Path) -> None:
    write_table(value, path)


def load_table(path: Path) -> Any:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def save_polars(value: Any, path: Path) -> None:
    value.write_ipc(path)


def load_polars(path: Path) -> Any:
    import polars  # pyright: ignore[reportMissingImports]

    return polars.read_ipc(path)


def takes_array(value: Any) -> bool:
    """Whether npy holds all of it: no Python objects inside, no mask."""
    return not value.dtype.hasobject and not is_a(value, "numpy.MaskedArray")


def save_array(value: Any, path: Path) -> None:
    import numpy as np

    with path.open("wb") as stream:
        np.save(stream, value, allow_pickle=False)
        stream.write(b"scalar" if isinstance(value, np.generic) else b"")


def load_array(path: Path) -> Any:
    import numpy as np

    with path.open("rb") as stream:
        array = np.load(stream, allow_pickle=False)
        return array[()] if stream.read(6) == b"scalar" else array


def save_sparse(value: Any, path: Path) -> None:
    import scipy.sparse

    with path.open("wb") as stream:
        scipy.sparse.save_npz(stream, value, compressed=False)


def load_sparse(path: Path) -> Any:
    import scipy.sparse

    return scipy.sparse.load_npz(path)


def save_estimator(value: Any, path: Path) -> None:
    skops_io().dump(value, path)


def load_estimator(path: Path) -> Any:
    skops = skops_io()
    # the file is this machine's own cache, checked by digest: what it holds was an object of this pipeline
    return skops.load(path, trusted=skops.get_untrusted_types(file=path))
