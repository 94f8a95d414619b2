"""Logged predictions with their labels as JSON Lines, oldest first, read in a process of its own.

python -m modelyard.deliver.deployments.predictions_listed FOLDER MLMODEL SINCE_MS MOST ID
"""

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.serving import ground_truth, log_reader

AT_ONCE = 1000


def listed(folder: Path, model_file: Path, since_ms: int, most: int, identity: str) -> Iterable[dict[str, Any]]:
    """Rows of the log since a moment, the newest `most` of them (0: all), each with its `label` or null.

    identity: of a prediction, a request or a caller, with or without a row; empty for all.
    """
    labels = ground_truth.newest(folder)
    signature = log_reader.signature_of(model_file)
    rows = (
        row
        for _, _, table in log_reader.segments(folder, signature, since_ms=since_ms or None)
        for row in _rows(ground_truth.join(_asked(table, since_ms, identity), labels))
    )
    return deque(rows, maxlen=most) if most else rows


def _asked(table: Any, since_ms: int, identity: str) -> Any:
    import pyarrow as pa  # late: as all that reads logs
    import pyarrow.compute as pc

    table = table.filter(pc.field("time_ms") >= since_ms)
    if identity:
        names = zip(table.column("prediction_id").to_pylist(), table.column("caller_id").to_pylist(), strict=True)
        table = table.filter(pa.array([_is(identity, *pair) for pair in names], pa.bool_()))
    return table.sort_by("time_ms")


def _is(identity: str, prediction: str, caller: str | None) -> bool:
    request, _, row = prediction.rpartition(":")
    return identity in (prediction, request, caller, f"{caller}:{row}")


def _rows(table: Any) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=AT_ONCE):
        yield from batch.to_pylist()


def main() -> int:
    folder, model_file, since_ms, most, identity = sys.argv[1:6]
    for row in listed(Path(folder), Path(model_file), int(since_ms), int(most), identity):
        sys.stdout.buffer.write(msgspec.json.encode(row) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
