"""Seconds and MB that a graph of argv[1] steps takes to be drawn up and made ready to run, as JSON."""

import json
import tempfile
import time
from pathlib import Path

from run_modelyard import chain

from modelyard.build.pipelines.runner import Runner


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


before, started = resident_mb(), time.perf_counter()
graph = chain.trace({})
with tempfile.TemporaryDirectory() as home:
    Runner(graph, Path(__file__).parent, "run_modelyard.py", Path(home))
print(json.dumps({"seconds": time.perf_counter() - started, "mb": resident_mb() - before}))
