"""Keeps a prediction log: sealed segments become Parquet, what is older than declared goes. In a process of its own.

python -m modelyard.deliver.deployments.log_keeping FOLDER MLMODEL BEFORE_MS
"""

import json
import shutil
import sys
from pathlib import Path

from modelyard.deliver.serving import ground_truth, log_reader
from modelyard.deliver.serving.capture import SHADOW
from modelyard.deliver.serving.prediction_log import PARQUET, SEALED, UNREAD


def keep(folder: Path, model_file: Path, before_ms: int) -> dict[str, int]:
    """{"compacted": segments, "forgotten": hours and unread segments of before `before_ms`, "labels": those removed}.

    0 forgets none. Labels go first, so that a kill leaves none whose prediction is gone.
    """
    signature = log_reader.signature_of(model_file)
    logs = [place for place in (folder, folder / SHADOW) if place.is_dir()]
    compacted = sum(log_reader.compact(place, signature) for place in logs)
    if not before_ms:
        return {"compacted": compacted, "forgotten": 0, "labels": 0}
    labels = _forget_labels(folder, before_ms)
    forgotten = sum(_forget(place, before_ms) for place in logs)
    return {"compacted": compacted, "forgotten": forgotten, "labels": labels}


def _old_hours(place: Path, before_ms: int) -> list[Path]:
    """The hours that ended before."""
    last = log_reader.hour_of(before_ms - log_reader.HOUR_MS)
    return [hour for hour in (place / PARQUET).glob("*") if hour.name < last]


def _forget_labels(folder: Path, before_ms: int) -> int:
    """Remove the labels of predictions in old hours, and those that came before: nobody will look at them."""
    import pyarrow.parquet as pq  # late: only what has old hours reads them

    labelled, named = set(ground_truth.read(folder)), set[str]()
    for file in (file for hour in _old_hours(folder, before_ms) for file in hour.glob("*.parquet") if labelled):
        for batch in pq.ParquetFile(file).iter_batches(columns=["prediction_id", "caller_id"]):
            for row in batch.to_pylist():
                named.update(
                    name for name in ground_truth.names_of(row["prediction_id"], row["caller_id"]) if name in labelled
                )
    came_before = before_ms - log_reader.HOUR_MS
    return ground_truth.forget_labels(folder, lambda label: label.id in named or label.came < came_before)


def _forget(place: Path, before_ms: int) -> int:
    """Remove the hours that ended before, and the unread segments that began an hour before."""
    hours = _old_hours(place, before_ms)
    for hour in hours:
        shutil.rmtree(hour)
    unread = [
        segment
        for segment in (place / UNREAD).glob(f"*{SEALED}")
        if int(segment.name.partition("-")[0]) < before_ms - log_reader.HOUR_MS
    ]
    for segment in unread:
        segment.unlink()
    return len(hours) + len(unread)


def main() -> int:
    folder, model_file, before_ms = sys.argv[1:4]
    sys.stdout.write(json.dumps(keep(Path(folder), Path(model_file), int(before_ms))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
