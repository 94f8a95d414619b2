"""One run of a monitor: every window of the prediction log that is complete and was not judged yet."""

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from modelyard.deliver.monitoring import drift, quality
from modelyard.deliver.monitoring.verdicts import ALERT, DRIFT, OK, QUALITY, WARNING
from modelyard.domain.project import Monitor, seconds

TOP = 8


@dataclass(frozen=True)
class Result:
    """What a monitor says of one window. verdict: ok, warning or alert."""

    kind: str
    version: int
    window_start: int
    window_end: int
    rows: int
    verdict: str
    title: str
    detail: dict[str, Any]

    def as_wire(self) -> dict[str, Any]:
        return asdict(self)


def judge_drift(
    table: Any, reference: dict[str, Any], declared: Monitor, version: int, after_ms: int
) -> list[Result]:
    """Input and prediction drift, and data quality, of every new window of predictions."""
    results: list[Result] = []
    for window in windows(table, declared, version, after_ms):
        current = arrays(window, [name for name in reference])
        columns = drift.compare_table(reference, current, window.num_rows)
        findings = quality.check_data(reference, current)
        drifted = [column.name for column in columns if column.drifted]
        share = len(drifted) / len(columns) if columns else 0.0
        alarmed = share >= declared.drift.columns_share
        top = ", ".join(f"{column.name} (PSI {column.psi:.1f})" for column in columns[:2] if column.drifted)
        title = f"{len(drifted)} of {len(columns)} columns drifted: {top}" if drifted else "no column drifted"
        detail = {
            "columns": drift.as_rows(columns),
            "drifted": drifted,
            "share": share,
            "limit": declared.drift.columns_share,
            "calibrated": all(column.calibrated for column in columns),
            "data_quality": [asdict(finding) for finding in findings],
        }
        verdict = ALERT if alarmed else (WARNING if drifted or findings else OK)
        results.append(_result(DRIFT, window, version, verdict, title, detail))
    return results


def judge_quality(
    table: Any, baseline: dict[str, Any], declared: Monitor, version: int, after_ms: int
) -> list[Result]:
    """Model quality of every new window of labelled predictions; late labels come in when they come."""
    import pyarrow.compute as pc  # late: only monitor runs need it

    labelled = table.filter(pc.field("label").is_valid())
    results: list[Result] = []
    for window in windows(labelled, declared, version, after_ms):
        labels = window.column("label").to_numpy(zero_copy_only=False)
        scores = window.column("prediction").to_numpy(zero_copy_only=False)
        found = quality.check_model(
            labels, scores, baseline.get("metrics", {}), baseline.get("standard_errors", {}), declared.model_quality
        )
        verdict = ALERT if found.degraded else OK
        results.append(_result(QUALITY, window, version, verdict, found.why, found.as_result()))
    return results


def windows(table: Any, declared: Monitor, version: int, after_ms: int) -> list[Any]:
    """Complete windows, one after the other, of a version's rows later than `after_ms`."""
    import pyarrow.compute as pc  # late: see above

    fresh = table.filter((pc.field("time_ms") > after_ms) & (pc.field("version") == version))
    if declared.window.rows is not None:
        size = declared.window.rows
        return [fresh.slice(start, size) for start in range(0, fresh.num_rows - size + 1, size)]
    length = int(seconds(declared.window.time or "1h") * 1000)
    if not fresh.num_rows:
        return []
    times = fresh.column("time_ms").to_numpy()
    bounds = np.searchsorted(times, np.arange(times[0], times[-1], length))
    return [fresh.slice(int(a), int(b - a)) for a, b in itertools.pairwise(bounds) if b > a]


def arrays(table: Any, names: list[str]) -> dict[str, Any]:
    """Columns as arrays by the reference's names: numbers as floats, the rest as text."""
    found: dict[str, Any] = {}
    for name in names:
        column = f"input.{name}" if f"input.{name}" in table.column_names else name
        if column in table.column_names:
            found[name] = as_array(table.column(column))
    return found


def as_array(column: Any) -> Any:
    """A column as floats (null is NaN) or as text (null is empty)."""
    import pyarrow as pa  # late: see above

    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(float)
    return np.array([value if value is not None else "" for value in column.cast(pa.string()).to_pylist()], dtype=str)


def _result(kind: str, window: Any, version: int, verdict: str, title: str, detail: dict[str, Any]) -> Result:
    times = window.column("time_ms")
    return Result(kind, version, times[0].as_py(), times[-1].as_py(), window.num_rows, verdict, title, detail)
