"""Serving beside its peers: requests/s, latency, CPU, memory, cold start, a switch of versions, the log's cost.

    make bench-serving                                                  # everything: about 20 minutes
    make bench-serving BENCH="--only logistic --peers bare,fastapi --json FILE"    # FILE collects several runs
    make bench-serving BENCH="--json FILE --only '' --write docs/explanation/benchmarks-serving.md"

Parts: logistic, boosting, twin (boosting by ONNX Runtime), each beside its peers; log, shadow, switch, cold, memory.
Ours is the whole path: gateway
with authentication, metrics and prediction log, one worker. It is measured in turns with each peer, so that their
ratio is of one run. Each peer runs in a virtual environment of its own under ~/.cache/modelyard-bench.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import serving_parts as parts
import serving_servers as servers
from serving_parts import Cells, Options
from serving_servers import Model
from serving_table import Figures, table, write

SINGLE: dict[str, Callable[[Model, Options], dict[str, Cells]]] = {
    "log": parts.log,
    "shadow": parts.shadow,
    "switch": parts.switch,
    "cold": parts.cold,
    "memory": parts.memory,
}
MODELS = ("logistic", "boosting", "twin")


def models(names: set[str], home: Path) -> dict[str, Model]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    boosting = HistGradientBoostingClassifier(max_iter=100)
    estimators = {"logistic": LogisticRegression(), "boosting": boosting, "twin": boosting}
    return {name: servers.train(name, estimators[name], home, name == "twin") for name in MODELS if name in names}


def beside(model: Model, name: str, options: Options, figures: Figures) -> None:
    """Measure one peer; one that does not start is noted with its reason."""
    print(f"{model.name}, {name}", file=sys.stderr)
    try:
        found = parts.pair(model, name, options)
    except (RuntimeError, OSError) as error:
        print(f"  not measured: {error}", file=sys.stderr)
        figures.setdefault("missing", {})[f"{model.name}/{name}"] = " ".join(str(error).split())[-120:]
        return
    figures[f"{model.name}/{name}"] = found
    figures.get("missing", {}).pop(f"{model.name}/{name}", None)
    for key, cells in found.items():
        rounded = {cell: {name: round(value, 2) for name, value in by.items()} for cell, by in cells.items()}
        print(f"  {key:14} {json.dumps(rounded)}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join([*MODELS, *SINGLE]), help="parts, by comma")
    parser.add_argument("--peers", default=",".join(servers.PEERS), help="which of: " + ", ".join(servers.PEERS))
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn of each cell")
    parser.add_argument("--turns", type=int, default=2, help="of each cell; their median counts")
    parser.add_argument("--json", type=Path, help="keep the figures here, beside those measured before")
    parser.add_argument("--write", type=Path, help="put the table between the marks of this page")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends with it
    if hasattr(os, "SCHED_BATCH"):  # inherited by all that is started: a client that wakes up interrupts no server
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    kept = arguments.json is not None and arguments.json.exists()
    figures: Figures = json.loads(arguments.json.read_text()) if kept else {}

    def keep() -> None:
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(figures, indent=1))

    wanted = [part for part in arguments.only.split(",") if part]
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as name:
        options = Options(arguments.seconds, arguments.turns, Path(name))
        trained = models({"logistic", *wanted}, options.home)
        for part in wanted:
            for peer in [peer for peer in arguments.peers.split(",") if peer and part in MODELS]:
                beside(trained[part], peer, options, figures)
                keep()
            if part in SINGLE:
                print(part, file=sys.stderr)
                figures[part] = SINGLE[part](trained["logistic"], options)
                print(f"  {figures[part]}", file=sys.stderr)
                keep()
    print(table(figures))
    if arguments.write:
        write(arguments.write, table(figures))


if __name__ == "__main__":
    main()
