"""What a step logs while it runs; kept with its cached result, so that a cached step still reports it."""

from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class Recorder:
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    params: dict[str, str] = field(default_factory=dict[str, str])


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
