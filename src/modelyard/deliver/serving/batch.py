"""Batch prediction over files and tables, in parts of many rows, each whole or absent: a killed run goes on.

An input becomes parts `<name>-00000.parquet` of the input's columns and the predictions, in the folders that it
was found in. A part carries the model's digest and the identity of its input; one that is already there for both is
not computed again.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from modelyard.deliver.serving import csv_rows
from modelyard.deliver.serving.batch_files import Files, LocalFiles, Source
from modelyard.deliver.serving.batch_rows import FileRows, Rows
from modelyard.deliver.serving.description import describe
from modelyard.deliver.serving.errors import BadInput
from modelyard.deliver.serving.loading import Loaded, load
from modelyard.deliver.serving.parsed import columns as predicted
from modelyard.domain.errors import Invalid
from modelyard.kit.hashing import digest_file, digest_json

PART_ROWS = 50_000
MARK = b"modelyard"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Part:
    """`number` is the part's place in its input; `mark` names what it was made from."""

    source: Source
    number: int
    rows: int
    target: str
    mark: str


@dataclass(frozen=True)
class Work:
    """Parts of one input that one process computes, in their order; some inputs are read in one go."""

    model: str
    inputs: Rows
    outputs: Files
    parts: tuple[Part, ...]


@dataclass
class Done:
    rows: int = 0
    parts: int = 0
    kept: int = 0


def run(
    model: Path,
    pattern: str,
    outputs: Files,
    workers: int,
    progress: Progress,
    rows: int = PART_ROWS,
    inputs: Rows | None = None,
    elsewhere: Callable[[list[Work]], Iterator[int]] | None = None,
) -> Done:
    """Predict every input that matches; how many rows and parts were written, and how many parts were there already.

    `progress` gets (parts done, parts known so far). elsewhere: does the work, and gives the rows of each part as it
    is written; by default `workers` processes of this machine do. Raises Invalid that names the file, the row and the
    column.
    """
    inputs = inputs or FileRows(LocalFiles())
    sources = inputs.find(pattern)
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
    done, total = Done(), 0
    todo: list[Part] = []
    for source in sources:
        for part in _parts(inputs, source, digest, rows):
            total += 1
            if _mark_of(outputs, part.target) == part.mark:
                done.kept += 1
            else:
                todo.append(part)
    progress(done.kept, total)
    work = _work(str(model), inputs, outputs, todo)
    for count in elsewhere(work) if elsewhere else _predicted(work, workers):
        done.rows += count
        done.parts += 1
        progress(done.kept + done.parts, total)
    return done


def _work(model: str, inputs: Rows, outputs: Files, todo: list[Part]) -> list[Work]:
    work: list[Work] = []
    for source, parts in groupby(todo, key=lambda part: part.source):
        every = tuple(parts)
        together = [every] if inputs.in_one_go(source) else [(part,) for part in every]
        work += [Work(model, inputs, outputs, each) for each in together]
    return work


def _predicted(work: list[Work], workers: int) -> Iterator[int]:
    """Rows of each part as it is finished; the first failure ends the run, what is written stays."""
    if workers <= 1 or len(work) <= 1:
        for item in work:
            yield from predict(item)
        return
    with ProcessPoolExecutor(min(workers, len(work)), mp_context=get_context("spawn")) as pool:
        waiting: set[Future[list[int]]] = {pool.submit(predict_all, item) for item in work}
        try:
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield from future.result()
        except Invalid:
            pool.shutdown(cancel_futures=True)
            raise


def predict_all(work: Work) -> list[int]:
    """Rows of each part, computed in this process. Raises Invalid."""
    return list(predict(work))


def predict(work: Work) -> Iterator[int]:
    """Rows of each part as it is written by this process, whose model is loaded once. Raises Invalid."""
    loaded = _loaded(work.model)
    for part, table in _tables(work.inputs, work.parts):
        _write(work.outputs, part, _with_predictions(loaded, part, table))
        yield table.num_rows


def _with_predictions(loaded: Loaded, part: Part, table: Any) -> Any:
    import pyarrow as pa  # late: only batch prediction and readers need it

    columns = {name: _plain(table.column(name)) for name in table.column_names}
    types = {column.name: column.type for column in loaded.signature.columns}
    try:
        for name, text in part.source.partitions.items():
            if name in types and name not in columns:
                columns[name] = [csv_rows.cell(name, text, types[name])] * table.num_rows
        taken = loaded.signature.take(columns, table.num_rows)
    except BadInput as error:
        raise Invalid(
            f"{part.source.name}, rows from {part.number * part.rows}: {error}",
            remedy="Correct the input and run again; finished parts are kept.",
        ) from None
    for name, values in predicted(loaded.predict(_inputs(loaded, taken))):
        table = table.append_column(name, pa.array(values))
    return table.replace_schema_metadata({MARK: part.mark.encode()})


def _plain(column: Any) -> list[Any]:
    """A column's values as a request would have them: times are ISO 8601 text."""
    import pyarrow as pa  # late: see above

    values = column.to_pylist()
    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type) or pa.types.is_time(column.type)):
        return values
    return [None if value is None else value.isoformat() for value in values]


def _write(outputs: Files, part: Part, table: Any) -> None:
    import pyarrow as pa  # late: see above
    import pyarrow.parquet as pq

    out = pa.BufferOutputStream()
    pq.write_table(table, out)
    outputs.write(part.target, out.getvalue().to_pybytes())


@cache
def _loaded(model: str) -> Loaded:
    return load(Path(model))


def _inputs(loaded: Loaded, taken: dict[str, list[Any]]) -> Any:
    tensor = loaded.signature.one_tensor
    return taken if tensor is None else tensor.array(list(zip(*taken.values(), strict=True)))


def _files(model: Path) -> list[Path]:
    return sorted(file for file in model.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def _parts(inputs: Rows, source: Source, digest: str, rows: int) -> Iterator[Part]:
    mark = digest_json([digest, source.identity, rows])
    for number in range(-(-inputs.count(source) // rows)):
        yield Part(source, number, rows, f"{source.stem}-{number:05d}.parquet", f"{mark}:{number}")


def _tables(inputs: Rows, parts: tuple[Part, ...]) -> Iterator[tuple[Part, Any]]:
    """Each part with the table of its rows; the file is read once, from the first part on."""
    import pyarrow as pa  # late: see above

    at = parts[0].number * parts[0].rows
    batches, rest = inputs.batches(parts[0].source, at), None
    for part in parts:
        start, end = part.number * part.rows, (part.number + 1) * part.rows
        found: list[Any] = []
        while at < end:
            batch = next(batches, None) if rest is None else rest
            rest = None
            if batch is None:
                break
            skipped = min(max(start - at, 0), batch.num_rows)  # rows of a part that is there already
            taken = batch.slice(skipped, end - at - skipped)
            if skipped + taken.num_rows < batch.num_rows:
                rest = batch.slice(skipped + taken.num_rows)
            if taken.num_rows:
                found.append(taken)
            at += skipped + taken.num_rows
        if found:
            yield part, pa.Table.from_batches(found)


def _mark_of(outputs: Files, target: str) -> str:
    import pyarrow as pa  # late: see above
    import pyarrow.parquet as pq

    try:
        with closing(outputs.open(target)) as stream:
            schema = pq.read_schema(pa.PythonFile(stream, mode="r"))
    except (FileNotFoundError, pa.ArrowInvalid):
        return ""
    return (schema.metadata or {}).get(MARK, b"").decode()
