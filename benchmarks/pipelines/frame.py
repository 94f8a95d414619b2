"""A frame of about 1 GB passed on between steps, beside the same bytes written to a file and read again, as JSON.

What a step returns is written to the cache (one that took a second is written through to the disk); a step in another
process then reads it. Every page is touched on both sides, so that a mapping that nobody reads does not count.
"""

import gc
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelyard.build.pipelines.cache import Cache, Result

GB, COLUMNS, TRIES = float(sys.argv[1]), 16, 3


def touched(data: Any) -> int:
    """Reads one byte of every page."""
    return int(np.frombuffer(data, dtype=np.uint8)[::4096].sum())


def passed(frame: pd.DataFrame, root: Path) -> tuple[float, float]:
    """(seconds to keep it as a step's result, seconds until another process has it)."""
    started = time.perf_counter()
    cache = Cache(root)
    stored = cache.save(frame)
    cache.put("key", "make", Result((stored,), {}, {}, 2.0))
    kept = time.perf_counter() - started
    started = time.perf_counter()
    reader = Cache(root)
    reader.trust([stored.digest])  # as a step does to what its own run wrote
    taken = reader.load(stored)
    for name in taken.columns:
        touched(taken[name].to_numpy())
    return kept, time.perf_counter() - started


def copied(data: bytes, file: Path) -> tuple[float, float]:
    """(seconds to write the bytes through to the disk, seconds to read them again)."""
    started = time.perf_counter()
    with file.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    written = time.perf_counter() - started
    started = time.perf_counter()
    touched(file.read_bytes())
    read = time.perf_counter() - started
    file.unlink()  # what follows finds the same free pages
    return written, read


rows = int(GB * 1e9 / 8 / COLUMNS)
frame = pd.DataFrame({f"x{n}": np.random.default_rng(n).normal(size=rows) for n in range(COLUMNS)})
data = b"".join(frame[name].to_numpy().tobytes() for name in frame.columns)
found: list[tuple[float, float, float, float]] = []
for _ in range(TRIES + 1):
    with tempfile.TemporaryDirectory(dir=os.getcwd()) as name:
        found.append((*copied(data, Path(name) / "plain"), *passed(frame, Path(name) / "cache")))
        gc.collect()
middle = [
    statistics.median(column) for column in zip(*found[1:], strict=True)
]  # the first made the machine's pages ready
print(json.dumps(dict(zip(("write", "read", "keep", "take"), middle, strict=True)) | {"bytes": len(data)}))
