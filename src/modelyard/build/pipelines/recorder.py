"""What a step logs while it runs; kept with its cached result, so that a cached step still reports it."""

from contextvars import ContextVar


class Recorder:
    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.params: dict[str, str] = {}


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
