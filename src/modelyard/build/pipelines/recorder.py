"""What a step logs while it runs; kept with its cached result, so that a cached step still reports it."""

from contextvars import ContextVar
from typing import Any


class Recorder:
    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.params: dict[str, str] = {}
        self.datasets: list[dict[str, Any]] = []


current: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


def log_metric(name: str, value: float) -> None:
    """Log a metric of the run that this step belongs to; outside a pipeline run it does nothing."""
    recorder = current.get()
    if recorder is not None:
        recorder.metrics[name] = float(value)


def log_param(name: str, value: object) -> None:
    """Log a param of the run that this step belongs to; outside a pipeline run it does nothing."""
    recorder = current.get()
    if recorder is not None:
        recorder.params[name] = str(value)


def log_dataset(name: str, digest: str, source: str, columns: dict[str, str], rows: int) -> None:
    """Log a dataset that this step read as an input of its run; outside a pipeline run it does nothing.

    source: where it was read from, without credentials; columns: type by name.
    """
    recorder = current.get()
    if recorder is not None:
        described = {"name": name, "digest": digest, "source": source, "columns": columns, "rows": rows}
        recorder.datasets.append(described)
