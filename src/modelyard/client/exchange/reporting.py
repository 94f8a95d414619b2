"""What an import or export did, and what both need to do it: batches, stamps, points on the wire."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from modelyard.client.exchange.records import Json, ModelPoint, Point, Run
from modelyard.domain.errors import ModelyardError
from modelyard.kit.hashing import digest_json

METRICS, PARAMS, TAGS = 1000, 100, 100
"""Most of each in one batch of the MLflow protocol."""
Progress = Callable[[str], None]


@dataclass
class Report:
    """What an import or export did. `problems` name what did not come across, and why."""

    experiments: int = 0
    runs: int = 0
    runs_present: int = 0
    points: int = 0
    files: int = 0
    files_present: int = 0
    bytes: int = 0
    logged_models: int = 0
    models: int = 0
    versions: int = 0
    versions_present: int = 0
    aliases: int = 0
    problems: list[str] = field(default_factory=list[str])

    def as_json(self) -> Json:
        return asdict(self)

    def guarded(self, what: str, work: Callable[[], None]) -> None:
        """One record that fails is named, and the others go on."""
        try:
            work()
        except ModelyardError as error:
            self.problems.append(f"{what}: {error}")


def check_same(what: str, read: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Raises ModelyardError that names the first difference of a copy."""
    for key in sorted(read.keys() | stored.keys()):
        if read.get(key) != stored.get(key):
            shown = (str(side.get(key, "nothing"))[:100] for side in (read, stored))
            raise ModelyardError(f"{what} differ after the copy: {key}: read {next(shown)}, stored {next(shown)}.")


def stamp_of(run: Run, listed: list[tuple[str, int | None]]) -> str:
    """The digest of all that shows whether a run changed since it was imported."""
    marks = {key: repr(value) for key, value in run.mark.items()}
    info = [run.name, run.status, run.lifecycle, run.started_at, run.ended_at]
    return digest_json([info, run.params, run.tags, marks, listed, run.datasets, run.model_inputs, run.model_outputs])


def wire(point: Point) -> Json:
    value: Any = point.value
    if not math.isfinite(point.value):
        value = "NaN" if math.isnan(point.value) else ("Infinity" if point.value > 0 else "-Infinity")
    return {"key": point.key, "value": value, "timestamp": point.time, "step": point.step}


def model_wire(held: ModelPoint) -> Json:
    """A point about a logged model, as it goes to the run that logged it."""
    return {**wire(held.point), "dataset_name": held.dataset_name, "dataset_digest": held.dataset_digest}
