"""What a monitor judges by: the prepared reference, thresholds, calibration, constraints, registered quality."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from modelyard.deliver.monitoring import class_estimate, estimate, labelled, losses, sketches
from modelyard.deliver.monitoring import reference as references
from modelyard.deliver.monitoring.categories import category_text
from modelyard.deliver.monitoring.cells import Cell
from modelyard.deliver.monitoring.class_estimate import ClassEstimate
from modelyard.deliver.monitoring.columns import COUNTED, as_arrow, as_numbers
from modelyard.deliver.monitoring.data_quality import suggest
from modelyard.deliver.monitoring.estimate import Calibration
from modelyard.deliver.monitoring.labelled import LABEL as LABEL
from modelyard.deliver.monitoring.labelled import PREDICTION as PREDICTION
from modelyard.deliver.monitoring.labelled import PROBABILITIES
from modelyard.deliver.monitoring.losses import LossModel
from modelyard.deliver.monitoring.reference import Reference
from modelyard.deliver.monitoring.sketches import Sketch
from modelyard.deliver.monitoring.tables import MemoryTable, open_table
from modelyard.deliver.monitoring.thresholds import RUNS, Thresholds, learn, learn_runs
from modelyard.domain.contracts import Constraint
from modelyard.domain.monitors import Monitor
from modelyard.domain.sections import seconds

CONFIDENCE = "prediction.confidence"
BINS = 20
ROLLING = 30


@dataclass
class Watch:
    """One version's monitor, ready to judge windows. `past` are its earlier results, newest window first.

    classes: a classifier's, as text, in the order of its probabilities. registered: whether the baseline is the
    registered evaluation; else it is the first labelled window, empty before that.
    """

    declared: Monitor
    version: int
    reference: Reference
    table: MemoryTable
    baseline: dict[str, Any]
    task: str = "binary"
    primary: str = ""
    protected: list[str] = field(default_factory=list[str])
    calibration: Calibration | LossModel | ClassEstimate | None = None
    constraints: dict[str, Constraint] | None = None
    past: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    classes: tuple[str, ...] = ()
    registered: bool = True
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
    classes: tuple[str, ...] = (),
    registered: bool = True,
) -> Watch:
    """The watch over a version. table: its reference window (inputs, `prediction`, `label`), in the order of time."""
    opened = open_table(table)
    columns = {name: next(opened.chunks(name)) for name in opened.names}
    held = MemoryTable({name: values for name, values in columns.items() if name not in (LABEL, PROBABILITIES)})
    reference = references.prepare(held, declared.drift.ignore)
    reference.importance = importance(reference, held)
    known = LABEL in columns and PREDICTION in columns
    rows = declared.window.rows or opened.rows
    calibration = _calibration(task, reference, columns, rows, classes) if known else None
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
        classes,
        registered,
    )


def _calibration(
    task: str, reference: Reference, columns: dict[str, Any], rows: int, classes: tuple[str, ...]
) -> Calibration | LossModel | ClassEstimate | None:
    """What tells the quality of windows of so many rows before their labels come; None for a ranking."""
    if task == "binary":
        return estimate.calibrate(as_numbers(columns[PREDICTION]), as_numbers(columns[LABEL]), rows)
    if task in ("regression", "forecasting"):
        of_rows = losses.of_numbers(as_numbers(columns[LABEL]), as_numbers(columns[PREDICTION]))
        return losses.learn(reference, columns, of_rows, rows)
    if task != "multiclass":
        return None
    import pyarrow as pa  # late: only monitor runs need it

    named = {name: columns[name] for name in (LABEL, PREDICTION, PROBABILITIES) if name in columns}
    held = labelled.of(pa.table({name: as_arrow(values) for name, values in named.items()}), task, {}, classes)
    if held.rows < reference.sketch.rows:
        return None  # a reference with gaps in its answers or labels
    about = held.labels, held.predictions, held.probabilities, classes, rows
    return class_estimate.learn(reference, columns, PREDICTION, *about)


def importance(reference: Reference, table: MemoryTable) -> dict[str, float]:
    """How much each input tells of the prediction, as shares of 1: the variance of the prediction between its bins.

    A stand-in for the model's own importances that needs only the reference; it sees each column alone. Of classes
    the variance is that of each one's indicator, added up. What the model answers counts as much as the most telling
    input. Empty without predictions.
    """
    if PREDICTION not in reference.layout.columns:
        return {}
    answers = _answers(reference, table.columns[PREDICTION])
    told: dict[str, float] = {}
    for name in reference.layout.columns:
        owner = reference.owner(name)
        if owner in (PREDICTION, CONFIDENCE) or name != owner:
            continue
        codes = _codes(reference, name, table.columns[name])
        told[name] = sum(weight * _explained(codes, answer) for answer, weight in answers)
    total = sum(told.values())
    if not total:
        return {}
    shares = {name: value / total for name, value in told.items()}
    said = [name for name in (PREDICTION, CONFIDENCE) if name in reference.layout.columns]
    return {**shares, **dict.fromkeys(said, max(shares.values()) / len(said))}


def _answers(reference: Reference, values: Any) -> list[tuple[Any, float]]:
    """(numbers whose variance is to be explained, their weight): the prediction, or an indicator of each class."""
    if reference.kinds[PREDICTION] not in COUNTED:
        return [(as_numbers(values), 1.0)]
    column = reference.layout.columns[PREDICTION]
    assert isinstance(column, sketches.CategoryLayout), "what is counted has categories"
    texts = np.array([category_text(value) for value in as_arrow(values).to_pylist()])
    indicators = [(texts == name).astype(float) for name in column.names]
    total = sum(float(indicator.var()) for indicator in indicators) or 1.0
    return [(indicator, float(indicator.var()) / total) for indicator in indicators]


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
