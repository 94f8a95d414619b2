"""Batch prediction over files: parts of many rows, each whole or absent, so that a killed run goes on where it was.

An input file becomes parts `<name>-00000.parquet` of the input's columns and the predictions. A part carries the
model's digest and the identity of its input; one that is already there for both is not computed again.
"""

import glob
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from modelyard.deliver.serving.description import describe
from modelyard.deliver.serving.errors import BadInput
from modelyard.deliver.serving.loading import Loaded, load
from modelyard.domain.errors import Invalid
from modelyard.kit.hashing import digest_file, digest_json
from modelyard.kit.ids import new_id

PART_ROWS = 50_000
MARK = b"modelyard"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Part:
    """`number` is the part's place in its input; `mark` names what it was made from."""

    source: Path
    number: int
    rows: int
    target: Path
    mark: str


@dataclass
class Done:
    rows: int = 0
    parts: int = 0
    kept: int = 0


def run(model: Path, pattern: str, output: Path, workers: int, progress: Progress, rows: int = PART_ROWS) -> Done:
    """Predict every file that matches; how many rows and parts were written, and how many parts were there already.

    `progress` gets (parts done, parts known so far). Raises Invalid that names the file, the row and the column.
    """
    sources = [Path(name) for name in sorted(glob.glob(pattern, recursive=True)) if Path(name).is_file()]
    if not sources:
        raise Invalid(
            f"No file matches {pattern}.", remedy="Name a CSV or Parquet file, or quote a pattern: 'in/*.csv'."
        )
    names = [source.stem for source in sources]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Invalid(f"Two input files are named {twice}.", remedy="Predict them into folders of their own.")
    describe(model)
    digest = digest_json({str(file.relative_to(model)): digest_file(file) for file in _files(model)})
    output.mkdir(parents=True, exist_ok=True)
    done, total = Done(), 0
    todo: list[Part] = []
    for source in sources:
        for part in _parts(source, output, digest, rows):
            total += 1
            if _mark_of(part.target) == part.mark:
                done.kept += 1
            else:
                todo.append(part)
    progress(done.kept, total)
    for count in _predicted(todo, model, workers):
        done.rows += count
        done.parts += 1
        progress(done.kept + done.parts, total)
    return done


def _predicted(todo: list[Part], model: Path, workers: int) -> Iterator[int]:
    """Rows of each part as it is finished; the first failure ends the run, what is written stays."""
    if workers <= 1 or len(todo) <= 1:
        for part in todo:
            yield predict_part(str(model), part)
        return
    with ProcessPoolExecutor(min(workers, len(todo)), mp_context=get_context("spawn")) as pool:
        waiting: set[Future[int]] = {pool.submit(predict_part, str(model), part) for part in todo}
        try:
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        except Invalid:
            pool.shutdown(cancel_futures=True)
            raise


def predict_part(model: str, part: Part) -> int:
    """Predict one part in this process, whose model is loaded once; how many rows. Raises Invalid."""
    import pyarrow as pa  # late: only batch prediction and readers need it
    import pyarrow.parquet as pq

    loaded = _loaded(model)
    for table in _tables(part.source, part.rows, part.number):
        columns = {name: table.column(name).to_pylist() for name in table.column_names}
        try:
            taken = loaded.signature.take(columns, table.num_rows)
        except BadInput as error:
            raise Invalid(
                f"{part.source}, rows from {part.number * part.rows}: {error}",
                remedy="Correct the file and run again; finished parts are kept.",
            ) from None
        for name, values in _named(loaded.predict(_inputs(loaded, taken))):
            table = table.append_column(name, pa.array(values))
        table = table.replace_schema_metadata({MARK: part.mark.encode()})
        temporary = part.target.with_name(f".{part.target.name}.{new_id()[:8]}")
        pq.write_table(table, temporary)
        os.replace(temporary, part.target)
        return table.num_rows
    return 0


@cache
def _loaded(model: str) -> Loaded:
    return load(Path(model))


def _inputs(loaded: Loaded, taken: dict[str, list[Any]]) -> Any:
    tensor = loaded.signature.one_tensor
    return taken if tensor is None else tensor.array(list(zip(*taken.values(), strict=True)))


def _named(predictions: Any) -> Iterator[tuple[str, list[Any]]]:
    """Columns of predictions: `prediction`, `prediction_0` and on for several values a row, or by their names."""
    import numpy as np

    if hasattr(predictions, "columns") or isinstance(predictions, dict):
        for name in list(predictions):  # a frame's column names, a dictionary's keys
            yield f"prediction_{name}", np.asarray(predictions[name]).tolist()
        return
    array = np.asarray(predictions)
    if array.ndim == 2:
        for index in range(array.shape[1]):
            yield f"prediction_{index}", array[:, index].tolist()
    else:
        yield "prediction", array.tolist()


def _files(model: Path) -> list[Path]:
    return sorted(file for file in model.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def _parts(source: Path, output: Path, digest: str, rows: int) -> Iterator[Part]:
    status = source.stat()
    mark = digest_json([digest, str(source.resolve()), status.st_size, status.st_mtime_ns, rows])
    for number in range(-(-_count(source) // rows)):
        yield Part(source, number, rows, output / f"{source.stem}-{number:05d}.parquet", f"{mark}:{number}")


def _count(source: Path) -> int:
    if source.suffix == ".parquet":
        import pyarrow.parquet as pq  # late: see above

        return pq.ParquetFile(source).metadata.num_rows
    return sum(table.num_rows for table in _batches(source))


def _batches(source: Path) -> Iterator[Any]:
    import pyarrow as pa  # late: see above
    import pyarrow.csv
    import pyarrow.parquet as pq

    if source.suffix not in (".parquet", ".csv"):
        raise Invalid(f"{source} is neither CSV nor Parquet.", remedy="Convert it, or name others.")
    try:
        if source.suffix == ".parquet":
            yield from (pa.Table.from_batches([batch]) for batch in pq.ParquetFile(source).iter_batches())
        else:
            for batch in pyarrow.csv.open_csv(source):
                yield pa.Table.from_batches([batch])
    except pa.ArrowInvalid as error:
        raise Invalid(f"{source} cannot be read: {error}.", remedy="Correct the file and run again.") from error


def _tables(source: Path, rows: int, number: int) -> Iterator[Any]:
    """The one table with the part's rows."""
    import pyarrow as pa  # late: see above

    start, end, at = number * rows, (number + 1) * rows, 0
    found: list[Any] = []
    for table in _batches(source):
        low, high = max(start - at, 0), min(end - at, table.num_rows)
        if low < high:
            found.append(table.slice(low, high - low))
        at += table.num_rows
        if at >= end:
            break
    if found:
        yield pa.concat_tables(found)


def _mark_of(target: Path) -> str:
    import pyarrow as pa  # late: see above
    import pyarrow.parquet as pq

    try:
        return (pq.read_schema(target).metadata or {}).get(MARK, b"").decode()
    except (FileNotFoundError, pa.ArrowInvalid):
        return ""
