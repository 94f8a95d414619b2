"""CPU of a prediction in the worker and its start, for each flavor, beside stock MLflow's pyfunc.

    make bench-flavors
    make bench-flavors BENCH="--only LightGBM --only XGBoost"

In one process without sockets: from a request's body to its answer's, by the worker's own predictor. `start` is a
worker's from its launch to its socket, over importing the model's own libraries. Libraries that are not installed
are left out: `pip install catboost torch` adds theirs.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

from serving_models import MODELS

COUNTS = (1, 8, 100)
SECONDS = 0.6
STARTS = 3
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def cpu_us(call: Any, bodies: list[Any]) -> float:
    """Microseconds of CPU of one call: the median of five parts."""
    call(bodies[0])
    found: list[float] = []
    for _ in range(5):
        started, end, done = time.process_time(), time.perf_counter() + SECONDS / 5, 0
        while time.perf_counter() < end:
            call(bodies[done % len(bodies)])
            done += 1
        found.append((time.process_time() - started) / done * 1e6)
    return median(found)


def bodies(rows: Any, count: int) -> list[bytes]:
    parts = [rows.iloc[start : start + count] for start in range(0, 16 * count, count)]
    return [f'{{"dataframe_split": {part.to_json(orient="split", index=False)}}}'.encode() for part in parts]


def worker_cost(folder: Path, rows: Any) -> dict[str, Any]:
    """The predictor's CPU by count of rows, and its first answer or error."""
    from modelyard.deliver.serving import paths
    from modelyard.deliver.serving.frames import RequestMeta
    from modelyard.deliver.serving.loading import load
    from modelyard.deliver.serving.predictor import Predictor

    loaded = load(folder)
    predictor = Predictor(loaded, "m", "1")
    asked, meta = paths.resolve("invocations"), RequestMeta("invocations")
    answers: list[tuple[Any, bytes]] = []
    found: dict[str, Any] = {"arrays": loaded.takes_matrix, "vectorised": loaded.vectorised}
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def ask(body: bytes) -> None:
        predictor.take(asked, meta, body, lambda meta, body: answers.append((meta, body)))
        while not answers:
            await asyncio.sleep(0)

    def call(body: bytes) -> None:
        loop.run_until_complete(ask(body))
        status, answer = answers[0][0].status, answers[0][1]
        answers.clear()
        if status != 200:
            raise RuntimeError(answer.decode()[:200])

    overhead = cpu_us(lambda _: loop.run_until_complete(asyncio.sleep(0)), [b""])
    for count in COUNTS:
        found[str(count)] = cpu_us(call, bodies(rows, count)) - overhead
    return found


def stock_cost(folder: Path, rows: Any) -> dict[str, Any]:
    """The same by MLflow's own scoring, from the JSON to the answer's."""
    import mlflow
    import pandas as pd

    model = mlflow.pyfunc.load_model(str(folder))

    def call(body: bytes) -> None:
        split = json.loads(body)["dataframe_split"]
        answer = model.predict(pd.DataFrame(split["data"], columns=split["columns"]))
        json.dumps(answer.tolist() if hasattr(answer, "tolist") else answer.to_dict("records"))

    return {str(count): cpu_us(call, bodies(rows, count)) for count in COUNTS}


def start_s(folder: Path) -> float:
    """Seconds from a worker's launch to its socket."""
    from modelyard.kit.hashing import digest_file

    with tempfile.TemporaryDirectory(prefix="yb-") as name:
        files = [file for file in folder.rglob("*") if file.is_file()]
        spec = {
            "id": "w", "deployment": "d", "model": "m", "version": 1, "digest": "0" * 64, "model_dir": str(folder),
            "socket": f"{name}/1.sock",
            "manifest": {file.relative_to(folder).as_posix(): digest_file(file) for file in files},
        }  # fmt: skip
        Path(name, "w.json").write_text(json.dumps(spec))
        command = [sys.executable, "-m", "modelyard.deliver.serving.worker", "--spec", f"{name}/w.json"]
        started = time.perf_counter()
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            while not Path(name, "1.sock").exists() and process.poll() is None:
                time.sleep(0.002)
            took = time.perf_counter() - started
            process.terminate()
    return took


def import_s(modules: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import numpy, {modules}"], check=True)
    return time.perf_counter() - started


def one(name: str, folder: Path) -> dict[str, Any]:
    """All figures of a model, or why there are none."""
    try:
        rows, modules = MODELS[name](folder)
    except ImportError as error:
        return {"error": f"{error.name} is not installed"}
    found: dict[str, Any] = {"modules": modules}
    for key, cost in (("worker", worker_cost), ("mlflow", stock_cost)):
        try:
            found[key] = cost(folder, rows)
        except Exception as error:  # noqa: BLE001 - whatever a model raises is a finding
            found[key] = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:120]}
    starts, imports = zip(*[(start_s(folder), import_s(modules)) for _ in range(STARTS)], strict=True)
    return {**found, "start": min(starts), "import": min(imports)}


def line(name: str, found: dict[str, Any]) -> str:
    if "error" in found:
        return f"| {name} | {found['error']} | | | |"
    cells = [
        ", ".join(f"{held[str(count)]:,.0f}" for count in COUNTS) if "error" not in held else held["error"]
        for held in (found["worker"], found["mlflow"])
    ]
    arrays = "yes" if found["worker"].get("arrays") else "no"
    ratio = f"{found['start']:.2f} s, {found['start'] / found['import']:.2f}x"
    return f"| {name} | {cells[0]} | {cells[1]} | {arrays} | {ratio} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[*MODELS], help="a model; may be given several times")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:  # each model in a process of its own
        warnings.simplefilter("ignore")
        with tempfile.TemporaryDirectory(prefix="bench-flavors-") as name:
            print("\n" + json.dumps(one(arguments.one, Path(name) / "model")))
        return
    print("| model | worker, us of CPU at 1, 8, 100 rows | MLflow's pyfunc | arrays | start, over the libraries' |")
    print("|---|---|---|---|---|")
    for name in arguments.only or MODELS:
        command = [sys.executable, __file__, "--one", name]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ONE_THREAD})
        last = done.stdout.strip().rpartition("\n")[2]
        print(line(name, json.loads(last) if done.returncode == 0 else {"error": done.stderr[-200:]}), flush=True)


if __name__ == "__main__":
    main()
