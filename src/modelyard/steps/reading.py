"""Reading tables from files, here and in object storage, with a record of what was read."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.build.pipelines.recorder import log_dataset
from modelyard.domain.errors import Invalid, NotFound
from modelyard.steps.library import library_step
from modelyard.store.objects.listing import REMOTE, listed

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".tsv", ".parquet", ".arrow", ".feather", ".jsonl", ".ndjson")
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
WHAT = "Reading from object storage"


def _with_state(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments, and what tells whether the files are still the same: sizes and times, or objects' tags."""
    return {**given, "state": [list(each) for each in _found(given["source"])]}


@library_step(_with_state)
def read(
    source: str | list[str], columns: list[str] | None = None, name: str = "", state: Sequence[Any] = ()
) -> "pd.DataFrame":
    """The rows of files, one after another: CSV (also compressed), TSV, Parquet, Arrow or JSON lines by their names.

    source: a file, a pattern such as `data/*.parquet`, a folder, `s3://bucket/pattern`, or a list of these.
    columns: those to read; all by default. name: of the dataset that is recorded; the file's by default.
    Raises NotFound for a source without files, Invalid for a file that is broken or of another format.
    """
    import pandas as pd  # late: importing steps must not load it

    files = [file for file, *_ in _found(source)]
    frames = [_frame(file, columns) for file in files]
    different = next((n for n, frame in enumerate(frames) if list(frame.columns) != list(frames[0].columns)), None)
    if different is not None:
        odd = sorted(set(map(str, frames[different].columns)) ^ set(map(str, frames[0].columns)))
        raise Invalid(
            f"{files[different]} and {files[0]} have other columns: {', '.join(odd) or 'another order'}.",
            remedy="Read them one by one, or name the columns that all have: columns=[...].",
        )
    frame = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
    shown = source if isinstance(source, str) else ", ".join(source)
    record(frame, name or Path(shown.rstrip("/*")).stem or "data", shown)
    return frame


def record(frame: "pd.DataFrame", name: str, source: str) -> None:
    """Log a frame as a dataset that the run reads."""
    from modelyard.build.pipelines.evaluation import frame_digest  # late: see above

    kinds = {str(column): _kind(kind) for column, kind in frame.dtypes.items()}
    log_dataset(name, frame_digest(frame), source, kinds, len(frame))


def _kind(dtype: Any) -> str:
    """MLflow's name of a column's type."""
    return {"i": "long", "u": "long", "f": "double", "b": "boolean", "M": "datetime"}.get(dtype.kind, "string")


def _found(source: str | list[str]) -> list[tuple[Any, ...]]:
    """(file, size, time or tag) of every file, in the order of the names. Raises NotFound."""
    if isinstance(source, list):
        return [each for one in source for each in _found(one)]
    named = listed(source, WHAT)
    found = [(f.name, f.size, f.mark) for f in named if not f.inside or _suffix(f.name) in SUFFIXES]
    if not found:
        raise NotFound(
            f"There is no file {source!r} in {os.getcwd()}.", remedy="Check the path; patterns look like data/*.csv."
        )
    return found


def _store(bucket: str) -> Any:
    from modelyard.store.objects.bucket import open_bucket  # late: see above

    return open_bucket(bucket, what=WHAT)


def _suffix(file: str) -> str:
    root, suffix = os.path.splitext(file.lower())
    return os.path.splitext(root)[1] if suffix in COMPRESSED else suffix


def _frame(file: str, columns: list[str] | None) -> "pd.DataFrame":
    import pandas as pd  # late: see above
    import pyarrow as pa

    kind = _suffix(file)
    if kind not in SUFFIXES:
        raise Invalid(f"{file} has no known format.", remedy=f"Known: {', '.join(SUFFIXES)}.")
    place, more = _opened(file)
    try:
        if kind in (".csv", ".tsv"):
            return pd.read_csv(place, sep="\t" if kind == ".tsv" else ",", usecols=columns, **more)
        if kind == ".parquet":
            return pd.read_parquet(place, columns=columns)
        if kind in (".arrow", ".feather"):
            return pd.read_feather(place, columns=columns)
        frame = pd.read_json(place, lines=True, **more)
        return frame[columns] if columns else frame
    except (ValueError, KeyError, UnicodeDecodeError, pa.ArrowInvalid, OSError) as error:
        raise Invalid(f"{file} cannot be read: {str(error).splitlines()[0]}", remedy="Mend the file.") from error


def _opened(file: str) -> tuple[Any, dict[str, Any]]:
    """(path or stream, how it is compressed) of a file."""
    if not file.startswith(REMOTE):
        return file, {}
    import io  # late: see above

    bucket, _, key = file.removeprefix(REMOTE).partition("/")
    data = io.BytesIO(memoryview(_store(bucket).get(key).bytes()))
    names = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".zip": "zip"}
    return data, {"compression": names.get(os.path.splitext(key)[1])}
