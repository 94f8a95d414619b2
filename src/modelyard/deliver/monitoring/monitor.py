"""What a monitor says of windows: drift, data quality, estimate and service of each window; model quality and bias
of each window with labels.
"""

import bisect
import itertools
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from modelyard.deliver.monitoring import (
    bias,
    data_quality,
    drawings,
    drift,
    estimate,
    labelled,
    metrics,
    quality,
    slices,
    streams,
)
from modelyard.deliver.monitoring.cells import PREFIX, Cell, inputs
from modelyard.deliver.monitoring.class_estimate import ClassEstimate
from modelyard.deliver.monitoring.estimate import Estimate
from modelyard.deliver.monitoring.explanations import Ranking
from modelyard.deliver.monitoring.kinds import (
    ALERT,
    BIAS,
    DATA,
    DRIFT,
    ESTIMATE,
    EXPLANATION,
    OK,
    QUALITY,
    SERVICE,
    STREAM,
    WARNING,
)
from modelyard.deliver.monitoring.labelled import Labelled
from modelyard.deliver.monitoring.losses import LossModel
from modelyard.deliver.monitoring.reference import sketch_table
from modelyard.deliver.monitoring.sketches import NumericLayout, Sketch
from modelyard.deliver.monitoring.tables import MemoryTable, Table
from modelyard.deliver.monitoring.watch import PREDICTION, Watch
from modelyard.domain.contracts import OUTPUTS
from modelyard.domain.errors import Conflict, ModelyardError
from modelyard.domain.monitors import Window as DeclaredWindow
from modelyard.domain.sections import seconds

ERROR = "error"
LEAST_FAILED = 3
TOP_PICTURES = 4
MOST_SHOWN = 40
HYSTERESIS = 0.5
"""A window is good again when the drifted share is below this part of the limit; in between it is a warning."""
MORE_LABELS = 1.1
"""A window is judged again when its labels grew by this factor since."""
FIRST = "in the first labelled window, which later ones are compared with: none was registered"
DEPLOY_AGAIN = "Where the endpoint still answers, its files were changed since: deploy the version again."


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


def judge_window(watch: Watch, window: Cell, cells: list[Cell]) -> list[Result]:
    """Everything that a window of predictions shows before its labels come. cells: all windows' cells, in order."""
    found = [judge_drift(watch, window, cells), judge_data(watch, window), judge_service(watch, window)]
    expected = judge_estimate(watch, window)
    return [*found, expected] if expected is not None else found


def judge_explanations(watch: Watch, window: Result, ranking: Ranking) -> Result:
    """Whether the model leans on other columns than on its reference."""
    verdict = ALERT if ranking.drifted else OK
    found = watch.version, window.window_start, window.window_end, window.rows
    return Result(EXPLANATION, *found, verdict, ranking.title, ranking.as_detail())


def unexplained(watch: Watch, window: Result, why: ModelyardError) -> Result:
    """That the model could not be asked what it looks at, and what to do; everything else is judged without it."""
    detail = {"error": why.message, "remedy": f"{why.remedy} {DEPLOY_AGAIN}".strip()}
    title = f"not explained: {why.message} {detail['remedy']}"
    found = watch.version, window.window_start, window.window_end, window.rows
    return Result(EXPLANATION, *found, WARNING, title, detail)


def judge_streams(watch: Watch, table: Any, after: int) -> Result | None:
    """Changes of level of single rows that were noticed later than `after`; None without a new row.

    table: the version's log, in the order of time, with a `label` column where labels are known.
    """
    held = table.filter(table.column("version").to_numpy() == watch.version)
    times = held.column("time_ms").to_numpy()
    fresh = int((times > after).sum())
    if not fresh:
        return None
    named = watch.declared.streams
    found = [shift for shift in streams.shifts(_streams(watch, held), times) if shift.at > after]
    start, end = int(times[len(times) - fresh]), int(times[-1])
    verdict, detail = ALERT if found else OK, streams.as_detail(found, fresh, named)
    return Result(STREAM, watch.version, start, end, fresh, verdict, streams.title(found), detail)


def _streams(watch: Watch, table: Any) -> dict[str, Any]:
    """The declared streams as numbers, NaN where a row has none. Raises Conflict for one that the log lacks."""
    found: dict[str, Any] = {}
    for name in watch.declared.streams:
        if name == ERROR:
            found[name] = _errors(watch, table)
            continue
        column = arrays(table, [name]).get(name)
        if column is None or column.dtype.kind != "f":
            known = [PREDICTION, ERROR, *watch.reference.kinds]
            raise Conflict(
                f"The stream {name!r} is no column of numbers in the log.", remedy=f"Known: {', '.join(known)[:300]}."
            )
        found[name] = column
    return found


def _errors(watch: Watch, table: Any) -> Any:
    """One loss a row, NaN without a label."""
    found = np.full(table.num_rows, np.nan)
    if "label" not in table.column_names:
        return found
    import pyarrow as pa  # late: see judge_labels

    numbered = table.append_column("row", pa.array(np.arange(table.num_rows)))
    held = labelled.of(numbered, watch.task, watch.baseline.get("how", {}), watch.classes)
    losses = held.losses()
    if losses is not None:
        found[held.table.column("row").to_numpy()] = losses
    return found


def judge_batch(watch: Watch, table: Table, start: int, end: int) -> list[Result]:
    """Drift, data quality and estimate of batch predictions, taken as one window from start to end (ms)."""
    window = Cell.empty(watch.version, start, watch.reference.layout)
    window.end, window.rows, window.sketch = end, table.rows, sketch_table(watch.reference, table)
    found = [judge_drift(watch, window, []), judge_data(watch, window, table)]
    expected = judge_estimate(watch, window)
    return [*found, expected] if expected is not None else found


def judge_drift(watch: Watch, window: Cell, cells: list[Cell]) -> Result:
    """Input and prediction drift; an alarm when enough of what the model uses drifted."""
    reference, thresholds = watch.compared_with(window, cells)
    judged = drift.judge(reference, watch.newest(window, cells), thresholds, watch.runs(window.rows))
    columns, taken, learnt = judged.columns, judged.windows, judged.thresholds
    drifted = [column for column in columns if column.drifted]
    limit, share = watch.declared.drift.columns_share, drift.weighted_share(columns)
    top = sorted(drifted, key=lambda column: -(column.importance or 0.0) * min(column.ratio, 10))[:2]
    named = ", ".join(f"{column.name} ({drift.deciding(column)})" for column in top)
    title = f"{len(drifted)} of {len(columns)} columns drifted: {named}" if drifted else "no column drifted"
    title += f", over {taken} windows together" if taken > 1 else ""
    title += "" if watch.registered else "; compared with its first window here"
    alarmed = bool(drifted) and share >= limit
    verdict = ALERT if alarmed else (WARNING if drifted and share >= HYSTERESIS * limit else OK)
    learnt = learnt if columns and columns[0].calibrated else None
    shown = [column.name for column in columns[:TOP_PICTURES] if column.drifted]
    pictures = {name: drawings.column(reference, judged.sketch, name) for name in shown}
    detail: dict[str, Any] = {
        "columns": drift.as_rows(columns),
        "drifted": [column.name for column in drifted],
        "share": share,
        "limit": limit,
        "against": watch.declared.drift.against,
        "windows_together": taken,
        "calibrated": learnt is not None,
        "false_alarm_rate": learnt.table_rate if learnt else drift.SIGNIFICANCE,
        "reference_windows": learnt.windows if learnt else 0,
        "pictures": pictures if alarmed else {},
    }
    return _result(DRIFT, window, verdict, title, detail)


def judge_data(watch: Watch, window: Cell, table: Table | None = None) -> Result:
    """Broken promises; those of a constraints file alarm, of the suggested ones only the grave.

    table: the window itself, for its columns and types; the log's are those of the signature.
    """
    declared = watch.constraints
    promised = declared or watch.suggested()
    held = table or MemoryTable({name: [] for name in watch.reference.kinds})
    findings = data_quality.check(watch.reference, window.sketch, held, promised)
    grave = [finding for finding in findings if declared or finding.check in data_quality.GRAVE]
    verdict = ALERT if grave else (WARNING if findings else OK)
    title = "; ".join(finding.message for finding in (grave or findings)[:2]) or "the data keeps its promises"
    if len(findings) > 2:
        title += f"; and {len(findings) - 2} more"
    return _result(DATA, window, verdict, title, {"findings": [asdict(finding) for finding in findings]})


def judge_estimate(watch: Watch, window: Cell) -> Result | None:
    """The quality to expect of a window whose labels have not come; None where it cannot be told."""
    metric = watch.primary or metrics.PRIMARY[watch.task]
    registered = watch.baseline.get("metrics", {}).get(metric)
    if not watch.declared.model_quality.estimate or registered is None:
        return None
    expected = _expected(watch, metric, window.sketch)
    if expected is None:
        return None
    before = estimate.record([item["result"] for item in watch.past if item["kind"] == QUALITY])
    worse = metrics.worse_by(metric, expected.value, registered)
    beyond = not expected.low <= registered <= expected.high
    low = worse > watch.declared.model_quality.max_regression and beyond
    verdict = OK if not low else (ALERT if estimate.trusted(before) else WARNING)
    title = f"{metric} is estimated at {expected.value:.3f} ({expected.low:.3f} to {expected.high:.3f}), "
    title += f"registered {registered:.3f}"
    detail = {**expected.as_wire(), "baseline": registered, "record": before}
    return _result(ESTIMATE, window, verdict, title, detail)


def _expected(watch: Watch, metric: str, sketch: Sketch) -> Estimate | None:
    """What the window's scores (two classes), or its inputs and answers, say of a metric."""
    if isinstance(watch.calibration, LossModel | ClassEstimate):
        return watch.calibration.estimate(metric, sketch)
    layout = watch.reference.layout.columns.get(PREDICTION)
    if watch.calibration is None or not isinstance(layout, NumericLayout) or not sketch.known(PREDICTION):
        return None
    counts = np.diff(sketch.counted(PREDICTION), prepend=0).astype(float)
    return estimate.of_scores(watch.calibration, metric, layout.edges, counts)


def judge_service(watch: Watch, window: Cell) -> Result:
    """Latency, errors and volume of a window against what was declared."""
    limits = watch.declared.service
    p50, p99 = window.latency_ms(0.5), window.latency_ms(0.99)
    broken: list[str] = []
    if limits.latency_p99_ms is not None and p99 is not None and p99 > limits.latency_p99_ms:
        broken.append(f"latency p99 {p99:.0f} ms > {limits.latency_p99_ms:g} ms")
    failed = window.failed / window.requests if window.requests else None
    if limits.error_rate is not None and failed is not None and failed > limits.error_rate:
        if window.failed >= LEAST_FAILED:
            broken.append(f"{failed:.1%} of the requests failed > {limits.error_rate:.1%}")
    if limits.least_rows is not None and window.rows < limits.least_rows:
        broken.append(f"{window.rows} rows < {limits.least_rows}")
    hours = max(window.end - window.start, 1) / 3_600_000
    detail = {"latency_p50_ms": p50, "latency_p99_ms": p99, "rows_per_hour": window.rows / hours, "broken": broken}
    detail |= {"requests": window.requests, "failed": window.failed, "error_rate": failed}
    shown = f"latency p99 {p99:.0f} ms" if p99 is not None else f"{window.rows} rows"
    return _result(SERVICE, window, ALERT if broken else OK, "; ".join(broken) or shown, detail)


def judge_labels(watch: Watch, table: Any) -> list[Result]:
    """Model quality and bias of every window of labelled predictions that is new, or has many more labels now.

    table: the version's log with its `label` column; late labels, in any order, come in when they come.
    """
    import pyarrow.compute as pc  # late: only monitor runs need it

    known = table.filter((pc.field("version") == watch.version) & pc.field("label").is_valid())
    past = [item for item in watch.past if item["kind"] == QUALITY and item["version"] == watch.version]
    results: list[Result] = []
    for start, end, window in _again(known, past):
        found = judge_labelled(watch, window)
        results += [replace(result, window_start=start, window_end=end) for result in found]
    after = max((item["window_end"] for item in past), default=0)
    for window in windows(known, watch.declared.window, after):
        results += judge_labelled(watch, window)
    return results


def _again(known: Any, past: list[dict[str, Any]]) -> Iterable[tuple[int, int, Any]]:
    """(start, end, rows) of windows judged before whose labels grew since; the newest judgement of each counts.

    Rows between the end of the window before and the start of this one are its own: their labels came late.
    """
    times = known.column("time_ms").to_numpy()
    newest: dict[tuple[int, int], int] = {}
    for item in past:
        key = (item["window_start"], item["window_end"])
        newest[key] = max(newest.get(key, 0), item["rows"])
    ends = sorted(end for _, end in newest)
    for (start, end), rows in newest.items():
        before = bisect.bisect_left(ends, start)
        earliest = ends[before - 1] + 1 if before else start
        first, last = int(np.searchsorted(times, earliest)), int(np.searchsorted(times, end, side="right"))
        if last - first > rows * MORE_LABELS:
            yield start, end, known.slice(first, last - first)


def judge_labelled(watch: Watch, window: Any) -> list[Result]:
    """Model quality, worst slices and bias of one window of labelled predictions."""
    baseline = watch.baseline
    held = labelled.of(window, watch.task, baseline.get("how", {}), watch.classes)
    errors, limits = baseline.get("standard_errors", {}), watch.declared.model_quality
    found = quality.check_model(held, baseline.get("metrics", {}), errors, limits, watch.primary)
    if not watch.registered and not baseline and found.value is not None:
        watch.baseline = found.as_baseline()
        found = replace(found, why=f"{found.metric} {found.value:.3f} {FIRST}")
    columns = arrays(held.table, [name for name in watch.reference.kinds if name not in OUTPUTS])
    detail = {**found.as_result(), "against": watch.baseline.get("against", "as registered")}
    losses = held.losses()
    detail["slices"] = slices.worst(columns, losses) if losses is not None and held.rows else []
    detail["parts"] = held.parts() if held.rows else []
    detail["estimate"] = _estimated(watch, found.metric, held.table)
    detail["pictures"] = _course(watch, found.metric, found.value, found.baseline) if found.degraded else {}
    verdict = ALERT if found.degraded else OK
    results = [_labelled(QUALITY, watch, window, verdict, found.why + _left_out(held), detail)]
    if watch.protected and held.rows and watch.task in ("binary", "multiclass"):
        results.append(_judge_bias(watch, window, held, columns))
    return results


def _course(watch: Watch, metric: str, value: float | None, baseline: float | None) -> dict[str, str]:
    """The metric over the windows judged so far and this one, beside what was registered, as a drawing by name."""
    before: dict[int, float | None] = {}
    for item in watch.past:
        if item["kind"] == QUALITY and item["version"] == watch.version and item["result"].get("metric") == metric:
            before.setdefault(item["window_end"], item["result"].get("value"))
    newest = [found for _, found in sorted(before.items())][-MOST_SHOWN:]
    return {f"{metric} by window": drawings.line([*newest, value], baseline)}


def _judge_bias(watch: Watch, window: Any, held: Labelled, columns: dict[str, Any]) -> Result:
    """Bias over the protected columns; of several classes for each class against the rest."""
    if watch.task == "binary":
        groups = bias.check(columns, held.predictions, held.labels, watch.protected, watch.declared.bias)
    else:
        groups = bias.check_classes(columns, held.predictions, held.labels, watch.protected, watch.declared.bias)
    broken = [item for item in groups if item.broken]
    told = ", ".join(dict.fromkeys(item.by for item in groups))
    absent = [name for name in watch.protected if name not in columns]
    title = broken[0].why if broken else f"no bound broken over {told}" if told else "bias is not judged"
    title += f"; not in the log, which holds the model's inputs: {', '.join(absent)}" if absent else ""
    wire = {"columns": [asdict(item) for item in groups]}
    return _labelled(BIAS, watch, window, ALERT if broken else WARNING if absent else OK, title, wire)


def _left_out(held: Labelled) -> str:
    if not held.left_out:
        return ""
    return f"; {held.left_out} labels cannot be compared and are left out, such as {held.example[:40]!r}"


def _estimated(watch: Watch, metric: str, window: Any) -> dict[str, Any] | None:
    """What would have been estimated of these rows without their labels: the record of having been right."""
    if watch.calibration is None:
        return None
    expected = _expected(watch, metric, sketch_table(watch.reference, MemoryTable(inputs(window))))
    return expected.as_wire() if expected is not None else None


def windows(table: Any, declared: DeclaredWindow, after_ms: int = 0) -> list[Any]:
    """Complete windows of the rows later than `after_ms`, one after the other; the table is in the order of time.

    A window never ends within a millisecond, so that the next one starts behind all that this one held: a window of
    rows is longer where its last rows share their time with others, and no request is parted.
    """
    times = table.column("time_ms").to_numpy()
    first = int(np.searchsorted(times, after_ms, side="right"))
    fresh, times = table.slice(first), times[first:]
    if not len(times):
        return []
    if declared.rows is not None:
        bounds = _ends_of_rows(times, declared.rows)
    else:
        length = int(seconds(declared.time or "1h") * 1000)
        bounds = np.searchsorted(times, np.arange(times[0], times[-1], length)).tolist()
    return [fresh.slice(a, b - a) for a, b in itertools.pairwise(bounds) if b > a]


def _ends_of_rows(times: Any, rows: int) -> list[int]:
    """0, and where each window of at least so many rows ends: the first place where a later time follows."""
    ends = np.append(np.flatnonzero(np.diff(times)) + 1, len(times))
    found = [0]
    while found[-1] + rows <= len(times):
        found.append(int(ends[np.searchsorted(ends, found[-1] + rows)]))
    return found


def arrays(table: Any, names: Iterable[str]) -> dict[str, Any]:
    """Columns as arrays by the reference's names: numbers as floats, the rest as text."""
    found: dict[str, Any] = {}
    for name in names:
        column = f"{PREFIX}{name}" if f"{PREFIX}{name}" in table.column_names else name
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


def _result(kind: str, window: Cell, verdict: str, title: str, detail: dict[str, Any]) -> Result:
    return Result(kind, window.version, window.start, window.end, window.rows, verdict, title, detail)


def _labelled(kind: str, watch: Watch, window: Any, verdict: str, title: str, detail: dict[str, Any]) -> Result:
    times = window.column("time_ms")
    start, end = times[0].as_py(), times[-1].as_py()
    return Result(kind, watch.version, start, end, window.num_rows, verdict, title, detail)
