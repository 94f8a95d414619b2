"""Reading a table of any size in bounded memory: a uniform random sample of its rows, and how many there are."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.domain.errors import Invalid, NotFound

SEED = 20_130_101
BATCH_ROWS = 50_000
FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".jsonl": "json",
    ".ndjson": "json",
}


@dataclass(frozen=True)
class Sample:
    """A pandas frame of at most the asked number of rows, in their order, and the number of all rows."""

    name: str
    frame: Any
    total_rows: int

    @property
    def whole(self) -> bool:
        return len(self.frame) == self.total_rows


def read(source: str, most_rows: int) -> Sample:
    """A sample of a file, or of a database's table given as `URL#table` such as `sqlite:///yard.db#flights`.

    Raises NotFound for a file that is not there, Invalid for a format that is not known or a file that is broken.
    """
    import pyarrow as pa  # late: importing explore must not load it

    try:
        batches = _table(source) if "://" in source else _file(Path(source))
        table, total = _reservoir(batches, most_rows)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise Invalid(f"{source} cannot be read: {str(error).splitlines()[0]}", remedy="Mend the file.") from error
    if table is None or not table.num_rows:
        raise Invalid(f"{source} has no rows.", remedy="Name a table with rows.")
    name = source.rpartition("#")[2] if "://" in source else Path(source).stem
    return Sample(name, table.to_pandas(), total)


def _file(path: Path) -> "Iterator[Any]":
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise Invalid(
            f"{path.name} has no known format.",
            remedy=f"Known: {', '.join(FORMATS)}, or a database's table: sqlite:///file.db#table",
        )
    if not path.is_file():
        raise NotFound(f"There is no file {path}.", remedy="Check the path.")
    return _batches(path, form)


def _batches(path: Path, form: str) -> Iterator[Any]:
    import pyarrow as pa  # late: see above

    if form == "csv":
        import pyarrow.csv as csv

        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        yield from csv.open_csv(path, parse_options=csv.ParseOptions(delimiter=delimiter))
    elif form == "parquet":
        import pyarrow.parquet as pq

        yield from pq.ParquetFile(path).iter_batches(BATCH_ROWS)
    elif form == "json":
        import pyarrow.json as reader

        yield from reader.read_json(path).to_batches()
    else:
        with pa.memory_map(str(path)) as source:
            held = pa.ipc.open_file(source)
            for number in range(held.num_record_batches):
                yield held.get_batch(number)


def _table(source: str) -> Iterator[Any]:
    import pyarrow as pa  # late: see above
    from sqlalchemy import MetaData, Table, create_engine, select
    from sqlalchemy.exc import NoSuchTableError, SQLAlchemyError

    url, _, name = source.partition("#")
    if not name:
        raise Invalid(f"{source} names no table.", remedy="Write URL#table, such as sqlite:///file.db#flights")
    try:
        engine = create_engine(url)
        with engine.connect() as conn:
            table = Table(name, MetaData(), autoload_with=conn)
            result = conn.execution_options(stream_results=True).execute(select(table))
            columns = list(result.keys())
            while rows := result.fetchmany(BATCH_ROWS):
                yield pa.RecordBatch.from_pydict(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))
        engine.dispose()
    except NoSuchTableError as error:
        raise NotFound(f"There is no table {name!r} in {url}.", remedy="Check its name.") from error
    except SQLAlchemyError as error:
        raise Invalid(f"{source} cannot be read: {str(error).splitlines()[0]}", remedy="Check the URL.") from error


def _reservoir(batches: Iterable[Any], most: int) -> tuple[Any, int]:
    """(table of a uniform sample, number of all rows): the rows with the `most` smallest random keys."""
    import numpy as np  # late: see above
    import pyarrow as pa

    random = np.random.default_rng(SEED)
    held: list[Any] = []
    keys, places = np.empty(0), np.empty(0, np.int64)
    total = 0
    table = None
    for batch in batches:
        keys = np.concatenate([keys, random.random(batch.num_rows)])
        places = np.concatenate([places, np.arange(total, total + batch.num_rows)])
        total += batch.num_rows
        held.append(pa.Table.from_batches([batch]))
        if len(keys) > 2 * most:
            table, keys, places = _kept(held, keys, places, most)
            held = [table]
    if held:
        table, _, _ = _kept(held, keys, places, most)
    return table, total


def _kept(held: list[Any], keys: Any, places: Any, most: int) -> tuple[Any, Any, Any]:
    import numpy as np  # late: see above
    import pyarrow as pa

    table = pa.concat_tables(held, promote_options="permissive")
    if len(keys) <= most:
        return table, keys, places
    chosen = np.sort(np.argpartition(keys, most)[:most])
    return table.take(chosen), keys[chosen], places[chosen]
