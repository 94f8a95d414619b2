"""The prediction log's reading side: segments become typed Parquet, once; readers see everything up to now."""

from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.serving import signature as signatures
from modelyard.deliver.serving.errors import BadInput
from modelyard.deliver.serving.mlflow_scoring import parse_invocation
from modelyard.deliver.serving.open_inference import parse_v2
from modelyard.deliver.serving.prediction_log import OPEN, SEALED, Record, read_segment
from modelyard.deliver.serving.signature import Signature
from modelyard.kit.files import sync_folder
from modelyard.kit.ids import new_id

PARQUET = "parquet"


def compact(folder: Path, signature: Signature) -> int:
    """How many sealed segments became Parquet. A crash in between repeats a segment's work and doubles nothing."""
    import pyarrow.parquet as pq  # late: only readers need it

    done = 0
    target = folder / PARQUET
    target.mkdir(exist_ok=True)
    for segment in sorted(folder.glob(f"*{SEALED}")):
        table = _table([record for _, record in read_segment(segment)], signature)
        final = target / f"{segment.stem}.parquet"
        temporary = final.with_suffix(f".{new_id()[:8]}")  # two readers may do the same segment at once
        pq.write_table(table, temporary)
        temporary.rename(final)
        sync_folder(target)
        segment.unlink(missing_ok=True)
        done += 1
    return done


def read(folder: Path, signature: Signature, since_ms: int | None = None) -> Any:
    """Every logged row as an Arrow table in the order of time, the open segment's whole records included."""
    import pyarrow as pa  # late: see above
    import pyarrow.parquet as pq

    compact(folder, signature)
    tables = [pq.read_table(file) for file in sorted((folder / PARQUET).glob("*.parquet"))]
    for segment in sorted(folder.glob(f"*{OPEN}")):
        tables.append(_table([record for _, record in read_segment(segment)], signature))
    tables = [table for table in tables if table.num_rows]
    if not tables:
        return _table([], signature)
    table = pa.concat_tables(tables, promote_options="permissive")
    if since_ms is not None:
        import pyarrow.compute as pc

        table = table.filter(pc.field("time_ms") >= since_ms)
    return table.sort_by([("time_ms", "ascending"), ("prediction_id", "ascending")])


def segments(folder: Path, signature: Signature, known: Container[str] = ()) -> Iterator[tuple[str, bool, Any]]:
    """(name, whether it is sealed, its rows as an Arrow table) of each segment, oldest first.

    Sealed segments in `known` are not read; the open one is given with the whole records that it has now.
    """
    import pyarrow.parquet as pq  # late: see above

    compact(folder, signature)
    for file in sorted((folder / PARQUET).glob("*.parquet")):
        if file.stem not in known:
            yield file.stem, True, pq.read_table(file)
    for segment in sorted(folder.glob(f"*{OPEN}")):
        yield segment.stem, False, _table([record for _, record in read_segment(segment)], signature)


def _table(records: Iterable[Record], signature: Signature) -> Any:
    """Rows of answered requests: ids, time, version, input columns, prediction."""
    import pyarrow as pa  # late: see above

    kinds = {
        "double": pa.float64(),
        "float": pa.float32(),
        "long": pa.int64(),
        "integer": pa.int32(),
        "boolean": pa.bool_(),
    }
    columns: dict[str, list[Any]] = {name: [] for name in signature.names}
    ids: list[str] = []
    times: list[int] = []
    deployments: list[str] = []
    versions: list[int] = []
    latencies: list[float] = []
    predictions: list[float | None] = []
    for record in records:
        parsed = _rows(record, signature)
        if parsed is None:
            continue
        given, answered = parsed
        for name in signature.names:
            columns[name] += given[name]
        count = len(answered)
        ids += [f"{record.id}:{row}" for row in range(count)]
        times += [record.time] * count
        deployments += [record.deployment] * count
        versions += [record.version] * count
        latencies += [record.latency_us / 1000] * count
        predictions += answered
    arrays: dict[str, Any] = {
        "prediction_id": pa.array(ids, pa.string()),
        "time_ms": pa.array(times, pa.int64()),
        "deployment": pa.array(deployments, pa.string()),
        "version": pa.array(versions, pa.int64()),
        "latency_ms": pa.array(latencies, pa.float64()),
        "prediction": pa.array(predictions, pa.float64()),
    }
    for column in signature.columns:
        arrays[f"input.{column.name}"] = pa.array(columns[column.name], kinds.get(column.type, pa.string()))
    return pa.table(arrays)


def _rows(record: Record, signature: Signature) -> tuple[dict[str, list[Any]], list[float | None]] | None:
    """(input columns, predictions) of a request that was answered; None for one that failed."""
    if record.status != 200:
        return None
    try:
        if record.path == "invocations":
            parsed = parse_invocation(record.request, record.content_type, signature)
            answered = msgspec.json.decode(record.answer)["predictions"]
        else:
            parsed = parse_v2(record.request, signature, "", "")
            output = msgspec.json.decode(record.answer)["outputs"][0]
            width = output["shape"][1] if len(output["shape"]) > 1 else 1
            data = output["data"]
            answered = [data[start : start + width] for start in range(0, len(data), width)]
    except (BadInput, msgspec.DecodeError, KeyError):
        return None
    return parsed.columns, [_number(row) for row in answered]


def _number(row: Any) -> float | None:
    """The prediction as one number: the positive class's probability of a pair, or the number itself."""
    if isinstance(row, list):
        return _number(row[-1]) if row else None
    return float(row) if isinstance(row, int | float) else None


def signature_of(model_file: Path) -> Signature:
    """The signature of an MLmodel file."""
    import yaml  # late: see above

    return signatures.parse(yaml.safe_load(model_file.read_text()))
