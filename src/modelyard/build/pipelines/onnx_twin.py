"""A version's twin: its model as an ONNX graph beside it, kept only when both answer the reference window alike."""

import json
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.build.pipelines import onnx_graphs
from modelyard.domain.errors import MissingExtra

GRAPH, NOTE = "twin.onnx", "twin.json"
"""The worker's names for them: `deliver/serving/twins.py`."""
HOLES = 0.05
"""Share of the cells that a second comparison leaves out, where the model takes missing values."""
MOST_ROWS = 50_000


@dataclass(frozen=True)
class Twin:
    """A graph that answers as the model does, and how that was found."""

    graph: bytes
    function: str
    columns: list[str]
    labels: list[Any] | None
    labels_type: str
    missing: bool
    within: float
    largest_difference: float
    rows: int

    def write(self, folder: Path) -> None:
        note = {name: value for name, value in asdict(self).items() if name != "graph"}
        (folder / GRAPH).write_bytes(self.graph)
        (folder / NOTE).write_text(json.dumps(note, indent=1))

    @property
    def requirement(self) -> str:
        """What serving it needs beside the model's own libraries."""
        return f"onnxruntime=={metadata.version('onnxruntime')}"


def of(model: Any, function: str, rows: Any, within: float) -> tuple[Twin | None, str]:
    """(the twin or None, one sentence on why).

    rows: a frame of the model's inputs, on which both are compared; a difference is |a - b| / (1 + |a|) at most
    `within`. Raises MissingExtra.
    """
    rows = rows.head(MOST_ROWS)
    if not all(kind.kind in "fiu" for kind in rows.dtypes):
        return None, "no ONNX twin: its inputs are not all numbers"
    try:
        graph = onnx_graphs.convert(model, function)
    except onnx_graphs.NotConverted as error:
        return None, f"no ONNX twin: {error} is not converted"
    run = _session(graph)
    answered = getattr(model, function)(rows)
    labels = getattr(model, "classes_", None) if function == "predict" else None
    far = _difference(answered, _answers(run, rows, labels))
    missing = _takes_missing(model)
    if missing:
        holes = rows.mask(np.random.default_rng(0).random(rows.shape) < HOLES)
        far = max(far, _difference(getattr(model, function)(holes), _answers(run, holes, labels)))
    if not far <= within:
        return None, f"no ONNX twin: it answers otherwise than the model, off by {far:.3g}, allowed {within:g}"
    listed, kind = (None, "") if labels is None else (labels.tolist(), str(labels.dtype))
    names = [str(name) for name in rows.columns]
    twin = Twin(graph, function, names, listed, kind, missing, within, far, len(rows))
    return twin, f"ONNX twin: off by {far:.1g} at most on {len(rows):,} rows, allowed {within:g}"


def _session(graph: bytes) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "onnx", "Comparing a model with its ONNX twin") from error
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return lambda rows: session.run(None, {onnx_graphs.INPUT: rows})[0]


def _answers(run: Any, rows: Any, labels: Any) -> Any:
    found = run(np.ascontiguousarray(rows.to_numpy(dtype=np.float64)))
    return found if labels is None else labels[found]


def _difference(expected: Any, found: Any) -> float:
    """The largest difference of two answers; infinite where labels or shapes differ."""
    expected, found = np.asarray(expected), np.asarray(found)
    if expected.shape != found.shape:
        return np.inf
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(expected, found) else np.inf
    with np.errstate(invalid="ignore"):
        far = np.abs(expected - found) / (1 + np.abs(expected))
    return float(
        np.max(np.where((expected == found) | (np.isnan(expected) & np.isnan(found)), 0.0, far), initial=0.0)
    )


def _takes_missing(model: Any) -> bool:
    from sklearn.utils import get_tags  # late: importing pipelines must not load it

    return bool(get_tags(model).input_tags.allow_nan)
