"""A version's twin: its model as an ONNX graph, which was compared with it when it was registered.

ONNX Runtime answers one row in some 10 us, whatever the model's own library takes, and the library need not be
loaded. The twin is among the version's files, so that it is what was approved.
"""

import logging
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from modelyard.deliver.serving.onnx_sessions import opened
from modelyard.domain.errors import MissingExtra

GRAPH, NOTE = "twin.onnx", "twin.json"
INPUT = "rows"
logger = logging.getLogger("modelyard.worker")


class Note(msgspec.Struct, frozen=True):
    """What was written beside the graph. labels: a classifier's, whose places it answers; missing: NaN is taken."""

    function: str
    columns: list[str]
    within: float
    largest_difference: float
    rows: int
    missing: bool = False
    labels: list[Any] | None = None
    labels_type: str = ""


class Twin:
    """Called with an array of numbers or a frame, as the model's own function is."""

    def __init__(self, folder: Path) -> None:
        self.note = msgspec.json.decode((folder / NOTE).read_bytes(), type=Note)
        self._session = opened(folder / GRAPH)
        labels = self.note.labels
        self._labels = None if labels is None else np.array(labels, dtype=self.note.labels_type)

    def __call__(self, rows: Any) -> Any:
        if type(rows) is not np.ndarray:
            rows = rows.to_numpy()
        rows = np.ascontiguousarray(rows, dtype=np.float64)
        if not np.isfinite(rows).all():
            if np.isinf(rows).any():
                raise ValueError("Input contains infinity.")
            if not self.note.missing:
                raise ValueError("Input contains NaN.")
        (found,) = self._session.run(None, {INPUT: rows})
        return found if self._labels is None else self._labels.take(found)


def find(folder: Path, function: str) -> Twin | None:
    """The twin of the model in a folder; None when there is none, or ONNX Runtime is not installed."""
    if not (folder / NOTE).exists():
        return None
    try:
        twin = Twin(folder)
    except MissingExtra as error:
        logger.warning("The model's own library answers, not its ONNX twin: %s", error)
        return None
    if twin.note.function != function:
        return None
    logger.info(
        "ONNX Runtime answers: on %s rows it was off by %.1g at most.", twin.note.rows, twin.note.largest_difference
    )
    return twin
