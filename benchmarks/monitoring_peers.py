"""What each drift tool does with a reference and a window, in its own environment: prepare once, then report.

Each report gives the columns that the tool calls drifted by its defaults.
"""

import os
from typing import Any


def _window() -> int:
    """Rows of the windows to come, which a tool may know that learns from the reference's own."""
    return int(os.environ["BENCH_WINDOW"])


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
    from modelyard.deliver.monitoring.reference import own_windows, prepare_with_windows
    from modelyard.deliver.monitoring.tables import open_table
    from modelyard.deliver.monitoring.thresholds import learn_runs

    table = open_table(reference)
    prepared = prepare_with_windows(table, _window())
    return prepared, learn_runs(own_windows(prepared, table, _window(), in_a_row=True), _window()), []


def prepare_modelyard_once(reference: Any) -> Any:
    from modelyard.deliver.monitoring.reference import prepare
    from modelyard.deliver.monitoring.tables import open_table

    return prepare(open_table(reference))


def report_modelyard(prepared: Any, reference: Any, current: Any) -> set[str]:
    from modelyard.deliver.monitoring.comparison import compare_prepared

    if isinstance(prepared, tuple):
        return _judged(*prepared, current)
    return set(compare_prepared(prepared, current, len(reference)).drifted)


def _judged(reference: Any, runs: Any, seen: list[Any], current: Any) -> set[str]:
    """As a monitor does: the window alone, and together with those before it; `seen` is filled."""
    from modelyard.deliver.monitoring import drift
    from modelyard.deliver.monitoring.reference import sketch_table
    from modelyard.deliver.monitoring.tables import open_table

    seen.append(sketch_table(reference, open_table(current)))
    found = drift.judge(reference, seen, reference.thresholds, runs)
    return {column.name for column in found.columns if column.drifted}


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
        chunk_size=_window() if os.environ.get("BENCH_WINDOW") else len(reference),
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
MODULES = {
    "floor": "numpy",
    "modelyard": "modelyard.deliver.monitoring.comparison",
    "scipy": "scipy.stats",
    "frouros": "frouros.detectors.data_drift",
}
