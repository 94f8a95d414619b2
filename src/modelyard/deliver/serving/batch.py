"""Batch prediction over files and tables, in parts of many rows, each whole or absent: a killed run goes on.

An input becomes parts `<name>-00000.parquet` of the input's columns and the predictions, in the folders that it
was found in. A part carries the model's digest and the identity of its input; one that is already there for both is
not computed again. Rows that do not fit the model end the run, or are put elsewhere.
"""

import csv
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.deliver.serving import signature as signatures
from modelyard.deliver.serving.batch_answers import Answers, answered
from modelyard.deliver.serving.batch_checks import Fitting, fitting, set_aside
from modelyard.deliver.serving.batch_csv import Looked, Ragged
from modelyard.deliver.serving.batch_files import Files, LocalFiles, Source, matcher
from modelyard.deliver.serving.batch_rows import FileRows, Rows
from modelyard.deliver.serving.description import describe
from modelyard.deliver.serving.loading import Loaded, load
from modelyard.domain.errors import Invalid
from modelyard.kit.hashing import digest_file, digest_json
from modelyard.kit.processes import follow

PART_ROWS = 50_000
MARK = b"modelyard"
ASIDE_MARK = ":aside="
"""Before the number of rows that were set aside, in the mark of a part that lacks some."""
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
    aside: Files | None = None
    """Where rows go that do not fit; None: the first one ends the run."""


class Counted(NamedTuple):
    """The rows of a part that were predicted, and those that were set aside."""

    rows: int
    aside: int


@dataclass
class Done:
    """`aside` counts what was set aside, of kept parts too."""

    rows: int = 0
    parts: int = 0
    kept: int = 0
    aside: int = 0


def run(
    model: Path,
    pattern: str,
    outputs: Files,
    workers: int,
    progress: Progress,
    rows: int = PART_ROWS,
    inputs: Rows | None = None,
    elsewhere: Callable[[list[Work]], Iterator[Counted]] | None = None,
    aside: Files | None = None,
) -> Done:
    """Predict every input that matches; how many rows and parts were written, and how many parts were there already.

    `progress` gets (parts done, parts known so far). elsewhere: does the work, and counts each part as it is written;
    by default `workers` processes of this machine do. aside: where rows go that do not fit the model. Raises Invalid
    that names the file, the row and the column; where rows are set aside, only if no row fits.
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
    read = matcher(pattern if "://" in pattern else os.path.abspath(pattern))
    part = outputs.whole(f"{sources[0].stem}-00000.parquet")
    if read.fullmatch(part):
        raise Invalid(
            f"{pattern} would match what is written ({part}): the next run would take predictions for inputs.",
            remedy="Name an --output beside the inputs' folder.",
        )
    types = {column.name: column.type for column in signatures.parse(describe(model)).columns}
    digest = digest_json({str(file.relative_to(model)): digest_file(file) for file in _files(model)})
    done, total = Done(), 0
    todo: list[Part] = []
    for source in sources:
        looked = inputs.look(source, types, skip=aside is not None)
        if aside is not None:
            _set_lines_aside(aside, looked)
            done.aside += len(looked.ragged)
        _remove_beyond(-(-looked.rows // rows), looked.source.stem, outputs, aside)
        for part in _parts(looked, digest, rows):
            total += 1
            kept = _kept(outputs, part, aside)
            if kept is not None:
                done.kept, done.aside = done.kept + 1, done.aside + kept
            else:
                todo.append(part)
    progress(done.kept, total)
    work = _work(str(model), inputs, outputs, todo, aside)
    for counted in elsewhere(work) if elsewhere else _predicted(work, workers):
        done.rows, done.aside = done.rows + counted.rows, done.aside + counted.aside
        done.parts += 1
        progress(done.kept + done.parts, total)
    if done.aside and not (done.rows or done.kept):
        raise Invalid(f"No row of {pattern} fits the model.", remedy="See the problems beside what was set aside.")
    return done


def _remove_beyond(parts: int, stem: str, outputs: Files, aside: Files | None) -> None:
    """Remove what an earlier run wrote for an input that had more parts than it has now."""
    for number, name in outputs.numbered(stem, ".parquet").items():
        if number >= parts and _mark_of(outputs, name):
            outputs.remove(name)
            if aside is not None:
                aside.remove(f"{stem}-{number:05d}.csv")


def _set_lines_aside(aside: Files, looked: Looked) -> None:
    """Put what is no row of a file into one beside its parts."""
    target = f"{looked.source.stem}-lines.csv"
    if not looked.ragged:
        aside.remove(target)
        return
    out = io.StringIO()
    csv.writer(out).writerows([Ragged._fields, *looked.ragged])
    aside.write(target, out.getvalue().encode())


def _work(model: str, inputs: Rows, outputs: Files, todo: list[Part], aside: Files | None) -> list[Work]:
    work: list[Work] = []
    for source, parts in groupby(todo, key=lambda part: part.source):
        every = tuple(parts)
        together = [every] if inputs.in_one_go(source) else [(part,) for part in every]
        work += [Work(model, inputs, outputs, each, aside) for each in together]
    return work


def _predicted(work: list[Work], workers: int) -> Iterator[Counted]:
    """What each part has as it is finished; the first failure ends the run, what is written stays."""
    if workers <= 1 or len(work) <= 1:
        for item in work:
            yield from predict(item)
        return
    many, ours = min(workers, len(work)), (os.getpid(),)  # else they wait for ever for a parent that was killed
    with ProcessPoolExecutor(many, get_context("spawn"), initializer=follow, initargs=ours) as pool:
        waiting: set[Future[list[Counted]]] = {pool.submit(predict_all, item) for item in work}
        try:
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield from future.result()
        except Invalid:
            pool.shutdown(cancel_futures=True)
            raise


def predict_all(work: Work) -> list[Counted]:
    """What each part has, computed in this process. Raises Invalid."""
    return list(predict(work))


def predict(work: Work) -> Iterator[Counted]:
    """What each part has as it is written by this process, whose model is loaded once. Raises Invalid."""
    loaded = _loaded(work.model)
    for part, table in _tables(work.inputs, work.parts):
        start = part.number * part.rows
        aside = work.aside is not None
        found = fitting(loaded.signature, part.source, start, table, aside=aside)
        found, answers = answered(loaded, part.source, start, found, aside=aside)
        if work.aside is not None:
            _set_rows_aside(work.aside, part, table, found)
        _write(work.outputs, part, found, answers)
        yield Counted(found.table.num_rows, len(found.aside))


def _set_rows_aside(aside: Files, part: Part, table: Any, found: Fitting) -> None:
    target = f"{part.target.removesuffix('.parquet')}.csv"
    if found.aside:
        aside.write(target, set_aside(part.source, part.number * part.rows, table, found.aside))
    else:
        aside.remove(target)


def _write(outputs: Files, part: Part, found: Fitting, answers: Answers) -> None:
    import pyarrow as pa  # late: only batch prediction and readers need it
    import pyarrow.parquet as pq

    table = found.table
    for name, values in answers:
        table = table.append_column(name, pa.array(values))
    mark = f"{part.mark}{ASIDE_MARK}{len(found.aside)}" if found.aside else part.mark
    out = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({MARK: mark.encode()}), out)
    outputs.write(part.target, out.getvalue().to_pybytes())


@cache
def _loaded(model: str) -> Loaded:
    return load(Path(model))


def _files(model: Path) -> list[Path]:
    return sorted(file for file in model.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def _parts(looked: Looked, digest: str, rows: int) -> Iterator[Part]:
    source = looked.source
    mark = digest_json([digest, source.identity, rows])
    for number in range(-(-looked.rows // rows)):
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


def _kept(outputs: Files, part: Part, aside: Files | None) -> int | None:
    """How many rows of a part that is there were set aside; None for one that is to be computed."""
    mark, _, count = _mark_of(outputs, part.target).partition(ASIDE_MARK)
    if mark != part.mark or (count and aside is None):
        return None
    return int(count or 0)


def _mark_of(outputs: Files, target: str) -> str:
    import pyarrow as pa  # late: see above
    import pyarrow.parquet as pq

    try:
        with closing(outputs.open(target)) as stream:
            schema = pq.read_schema(pa.PythonFile(stream, mode="r"))
    except (FileNotFoundError, pa.ArrowInvalid):
        return ""
    return (schema.metadata or {}).get(MARK, b"").decode()
