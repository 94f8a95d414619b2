"""Keeps a prediction log: sealed segments become Parquet, what is older than declared goes. In a process of its own.

python -m modelyard.deliver.deployments.log_keeping FOLDER MLMODEL BEFORE_MS
"""

import json
import shutil
import sys
from pathlib import Path

from modelyard.deliver.serving import log_reader
from modelyard.deliver.serving.capture import SHADOW
from modelyard.deliver.serving.prediction_log import PARQUET, SEALED, UNREAD


def keep(folder: Path, model_file: Path, before_ms: int) -> dict[str, int]:
    """{"compacted": segments, "forgotten": hours and unread segments of before `before_ms`}; 0 forgets none."""
    signature = log_reader.signature_of(model_file)
    logs = [place for place in (folder, folder / SHADOW) if place.is_dir()]
    compacted = sum(log_reader.compact(place, signature) for place in logs)
    return {"compacted": compacted, "forgotten": sum(_forget(place, before_ms) for place in logs if before_ms)}


def _forget(place: Path, before_ms: int) -> int:
    """Remove the hours that ended before, and the unread segments that began an hour before."""
    last = log_reader.hour_of(before_ms - log_reader.HOUR_MS)
    hours = [hour for hour in (place / PARQUET).glob("*") if hour.name < last]
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
