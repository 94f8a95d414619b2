"""What a monitor judges by: the prepared reference, thresholds, calibration, constraints, registered quality."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from modelyard.deliver.monitoring import estimate, losses, sketches
from modelyard.deliver.monitoring import reference as references
from modelyard.deliver.monitoring.cells import Cell
from modelyard.deliver.monitoring.columns import COUNTED, as_arrow, as_numbers
from modelyard.deliver.monitoring.data_quality import suggest
from modelyard.deliver.monitoring.estimate import Calibration
from modelyard.deliver.monitoring.losses import LossModel
from modelyard.deliver.monitoring.reference import Reference
from modelyard.deliver.monitoring.sketches import Sketch
from modelyard.deliver.monitoring.tables import MemoryTable, open_table
from modelyard.deliver.monitoring.thresholds import RUNS, Thresholds, learn, learn_runs
from modelyard.domain.contracts import Constraint
from modelyard.domain.monitors import Monitor
from modelyard.domain.sections import seconds

LABEL, PREDICTION = "label", "prediction"
BINS = 20
ROLLING = 30


@dataclass
class Watch:
    """One version's monitor, ready to judge windows. `past` are its earlier results, newest window first."""

    declared: Monitor
    version: int
    reference: Reference
    table: MemoryTable
    baseline: dict[str, Any]
    task: str = "binary"
    primary: str = ""
    protected: list[str] = field(default_factory=list[str])
    calibration: Calibration | LossModel | None = None
    constraints: dict[str, Constraint] | None = None
    past: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    _learnt: dict[int, Thresholds | None] = field(default_factory=dict[int, Thresholds | None])
    _runs: dict[int, dict[int, Thresholds]] = field(default_factory=dict[int, dict[int, Thresholds]])

    def thresholds(self, rows: int) -> Thresholds | None:
        """Thresholds for windows of about `rows` rows; learnt once for each length (in steps of a tenth)."""
        step = max(1, 10 ** (len(str(rows)) - 2))
        length = max(1, rows // step * step)
        if length not in self._learnt:
            windows = references.own_windows(self.reference, self.table, length)
            self._learnt[length] = learn(windows, length)
        return self._learnt[length]

    def runs(self, rows: int) -> dict[int, Thresholds]:
        """Thresholds for several windows of about `rows` rows in a row, by their number; the fixed reference only."""
        if self.declared.drift.against != "reference":
            return {}
        if rows not in self._runs:
            windows = references.own_windows(self.reference, self.table, max(1, rows), in_a_row=True)
            self._runs[rows] = learn_runs(windows, rows)
        return self._runs[rows]

    def newest(self, window: Cell, cells: list[Cell]) -> list[Sketch]:
        """The window and as many whole windows before it as a run needs, in the order of time."""
        parts: list[Sketch] = []
        for cell in sorted(cells, key=lambda cell: -cell.end):
            if cell.end > window.end:
                continue
            if parts and parts[-1].rows < 0.8 * window.rows:
                parts[-1].merge(cell.sketch)
            elif len(parts) == max(RUNS):
                break
            else:
                parts.append(Sketch(self.reference.layout))
                parts[-1].merge(cell.sketch)
        return [*reversed(parts[1:]), window.sketch]

    def compared_with(self, window: Cell, cells: list[Cell]) -> tuple[Reference, Thresholds | None]:
        """The reference and thresholds for a window: the fixed one, the windows before, or the same time before."""
        against = self.declared.drift.against
        earlier = [cell for cell in cells if cell.end < window.start]
        if against == "reference" or not earlier:
            return self.reference, self.thresholds(window.rows)
        if against == "rolling":
            held = earlier[-ROLLING:]
        else:
            shift = int(seconds(against) * 1000)
            held = [
                cell for cell in earlier if window.start <= cell.start + shift <= max(window.end, window.start + 1)
            ]
        if not held:
            return self.reference, self.thresholds(window.rows)
        moving = Sketch(self.reference.layout)
        for cell in held:
            moving.merge(cell.sketch)
        found = replace(self.reference, sketch=moving)
        return found, learn([cell.sketch for cell in held], held[0].rows)

    def suggested(self) -> dict[str, Constraint]:
        return suggest(self.reference)


def prepare(
    declared: Monitor,
    version: int,
    table: Any,
    baseline: dict[str, Any],
    *,
    task: str = "binary",
    primary: str = "",
    protected: list[str] | None = None,
    constraints: dict[str, Constraint] | None = None,
    past: list[dict[str, Any]] | None = None,
) -> Watch:
    """The watch over a version. table: its reference window (inputs, `prediction`, `label`), in the order of time.

    Live forecasts are judged as the numbers that they are, each by itself.
    """
    task = "regression" if task == "forecasting" else task
    opened = open_table(table)
    columns = {name: next(opened.chunks(name)) for name in opened.names}
    held = MemoryTable({name: values for name, values in columns.items() if name != LABEL})
    reference = references.prepare(held, declared.drift.ignore)
    reference.importance = importance(reference, held)
    calibration = None
    if task == "binary" and LABEL in columns and PREDICTION in columns:
        rows = declared.window.rows or opened.rows
        scores, labels = as_numbers(columns[PREDICTION]), as_numbers(columns[LABEL])
        calibration = estimate.calibrate(scores, labels, rows)
    elif task == "regression" and LABEL in columns and PREDICTION in columns:
        rows = declared.window.rows or opened.rows
        labels, predictions = as_numbers(columns[LABEL]), as_numbers(columns[PREDICTION])
        calibration = losses.learn(reference, columns, labels, predictions, rows)
    return Watch(
        declared,
        version,
        reference,
        held,
        baseline,
        task,
        primary,
        protected or [],
        calibration,
        constraints,
        past or [],
    )


def importance(reference: Reference, table: MemoryTable) -> dict[str, float]:
    """How much each input tells of the prediction, as shares of 1: the variance of the prediction between its bins.

    A stand-in for the model's own importances that needs only the reference; it sees each column alone. The
    prediction itself counts as much as the most telling input. Empty without predictions.
    """
    if PREDICTION not in reference.layout.columns:
        return {}
    prediction = as_numbers(table.columns[PREDICTION])
    told: dict[str, float] = {}
    for name in reference.layout.columns:
        owner = reference.owner(name)
        if owner == PREDICTION or name != owner:
            continue
        told[name] = _explained(_codes(reference, name, table.columns[name]), prediction)
    total = sum(told.values())
    if not total:
        return {}
    shares = {name: value / total for name, value in told.items()}
    return {**shares, PREDICTION: max(shares.values())}


def _codes(reference: Reference, name: str, values: Any) -> Any:
    if reference.kinds[name] in COUNTED:
        array = as_arrow(values)
        encoded = array.combine_chunks() if hasattr(array, "combine_chunks") else array
        indices = encoded.dictionary_encode().indices if not hasattr(encoded, "indices") else encoded.indices
        return indices.to_numpy(zero_copy_only=False)
    numbers = as_numbers(values)
    layout = reference.layout.columns[name]
    assert isinstance(layout, sketches.NumericLayout), "every column is counted or a number"
    cuts = np.unique(np.nanquantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.searchsorted(cuts, numbers)


def _explained(codes: Any, prediction: Any) -> float:
    """The share of the prediction's variance that lies between the codes, corrected for their number; 0 to 1."""
    known = ~(np.isnan(prediction) | np.isnan(codes.astype(float)))
    codes, prediction = codes[known].astype(int), prediction[known]
    if len(prediction) < 2 or not prediction.var():
        return 0.0
    rows = np.bincount(codes).astype(float)
    means = np.bincount(codes, prediction) / np.maximum(rows, 1)
    between = float((rows * (means - prediction.mean()) ** 2).sum() / (prediction.var() * len(prediction)))
    groups = int((rows > 0).sum())
    return max(0.0, between - (groups - 1) / len(prediction))
