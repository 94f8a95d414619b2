"""The prediction log, read: segments become typed Parquet by hour, once; readers see everything up to now."""

from collections.abc import Container, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelyard.deliver.serving import log_rows
from modelyard.deliver.serving import signature as signatures
from modelyard.deliver.serving.prediction_log import OPEN, PARQUET, SEALED, SEGMENT_S, UNREAD, read_segment
from modelyard.deliver.serving.signature import Signature
from modelyard.kit.files import sync_folder
from modelyard.kit.ids import new_id

HOUR_MS = 3_600_000


def compact(folder: Path, signature: Signature) -> int:
    """How many sealed segments became Parquet. A crash in between repeats a segment's work and doubles nothing.

    A segment with answers that the signature cannot read is kept below `unread`.
    """
    import pyarrow.parquet as pq  # late: only readers need it

    done = 0
    for segment in sorted(folder.glob(f"*{SEALED}")):
        try:
            table, unread = log_rows.table(read_segment(segment), signature)
        except FileNotFoundError:
            continue  # another reader was faster
        target = folder / PARQUET / _hour(segment)
        target.mkdir(parents=True, exist_ok=True)
        final = target / f"{segment.stem}.parquet"
        temporary = final.with_suffix(f".{new_id()[:8]}")  # two readers may do the same segment at once
        pq.write_table(table, temporary)
        temporary.rename(final)
        sync_folder(target)
        if unread:
            (folder / UNREAD).mkdir(exist_ok=True)
            segment.rename(folder / UNREAD / segment.name)
        else:
            segment.unlink(missing_ok=True)
        done += 1
    return done


def read(folder: Path, signature: Signature, since_ms: int | None = None) -> Any:
    """Every logged row as an Arrow table in the order of time, the open segment's whole records included."""
    import pyarrow as pa  # late: see above

    tables = [table for _, _, table in segments(folder, signature, since_ms=since_ms) if table.num_rows]
    if not tables:
        return log_rows.table([], signature)[0]
    table = pa.concat_tables(log_rows.unified(tables), promote_options="permissive")
    if since_ms is not None:
        import pyarrow.compute as pc

        table = table.filter(pc.field("time_ms") >= since_ms)
    return table.sort_by([("time_ms", "ascending"), ("prediction_id", "ascending")])


def segments(
    folder: Path, signature: Signature, known: Container[str] = (), since_ms: int | None = None
) -> Iterator[tuple[str, bool, Any]]:
    """(name, whether it is sealed, its rows as an Arrow table) of each segment, oldest first.

    Sealed segments in `known` are not read; the open one is given with the whole records that it has now. With
    `since_ms` hours that ended before are passed over.
    """
    import pyarrow.parquet as pq  # late: see above

    opened = sorted(folder.glob(f"*{OPEN}"))
    compact(folder, signature)
    still: dict[str, Any] = {}
    for segment in opened:
        records = _now(segment)
        if records is not None:
            still[segment.stem] = log_rows.table(records, signature)[0]
    earliest = hour_of(since_ms - int(SEGMENT_S * 2000)) if since_ms is not None else ""
    for file in sorted((folder / PARQUET).glob("*/*.parquet"), key=lambda file: file.name):
        if file.stem not in known and file.stem not in still and file.parent.name >= earliest:
            yield file.stem, True, pq.read_table(file)
    for name, table in still.items():
        yield name, False, table


def _now(segment: Path) -> list[Any] | None:
    """The records of a segment that was open a moment ago; None when it has become Parquet since."""
    for path in (segment, segment.with_suffix(SEALED)):
        try:
            return list(read_segment(path))
        except FileNotFoundError:
            continue
    return None


def _hour(segment: Path) -> str:
    return hour_of(int(segment.name.partition("-")[0]))


def hour_of(time_ms: int) -> str:
    """The folder of an hour, by which names sort."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H")


def signature_of(model_file: Path) -> Signature:
    """The signature of an MLmodel file."""
    import yaml  # late: see above

    return signatures.parse(yaml.safe_load(model_file.read_text()))
