"""The statistics extension of Open Inference v2: what a worker counted since its start, and several workers' sum."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

Shown = dict[str, Any]


@dataclass(slots=True)
class Duration:
    count: int = 0
    seconds: float = 0.0

    def note(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds

    @property
    def shown(self) -> dict[str, int]:
        return {"count": self.count, "ns": int(self.seconds * 1e9)}


@dataclass(slots=True)
class Batch:
    """Calls of one number of rows."""

    parse: Duration = field(default_factory=Duration)
    predict: Duration = field(default_factory=Duration)


@dataclass(slots=True)
class Tally:
    """`rows` and `calls` that the model answered; `last` in milliseconds since the epoch; `batches` by their rows."""

    rows: int = 0
    calls: int = 0
    last: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    parse: Duration = field(default_factory=Duration)
    predict: Duration = field(default_factory=Duration)
    batches: dict[int, Batch] = field(default_factory=dict[int, Batch])

    def called(self, rows: int, parse_s: float, predict_s: float) -> None:
        """Note a call that the model answered."""
        self.calls += 1
        batch = self.batches.get(rows)
        if batch is None:
            batch = self.batches[rows] = Batch()
        batch.parse.note(parse_s)
        batch.predict.note(predict_s)

    def shown(self, model: str, version: str) -> Shown:
        """One entry of `model_stats`; durations in nanoseconds.

        Answers are written within the model's call, and nothing is cached: `compute_output` takes no time of its own.
        """
        counted = {"success": self.success, "fail": self.fail, "queue": self.queue}
        counted |= {"compute_input": self.parse, "compute_infer": self.predict}
        stats = {name: duration.shown for name, duration in counted.items()}
        stats |= {"compute_output": _untimed(self.predict.count), "cache_hit": _untimed(0), "cache_miss": _untimed(0)}
        return {
            "name": model,
            "version": version,
            "last_inference": self.last,
            "inference_count": self.rows,
            "execution_count": self.calls,
            "inference_stats": stats,
            "batch_stats": [
                {
                    "batch_size": rows,
                    "compute_input": batch.parse.shown,
                    "compute_infer": batch.predict.shown,
                    "compute_output": _untimed(batch.predict.count),
                }
                for rows, batch in sorted(self.batches.items())
            ],
        }


def merged(told: Sequence[Shown]) -> Shown:
    """What the workers of one version counted together; at least one of them."""
    batches: dict[int, list[Shown]] = {}
    for batch in (batch for shown in told for batch in shown["batch_stats"]):
        batches.setdefault(batch["batch_size"], []).append(batch)
    return {
        **told[0],
        "last_inference": max(shown["last_inference"] for shown in told),
        "inference_count": sum(shown["inference_count"] for shown in told),
        "execution_count": sum(shown["execution_count"] for shown in told),
        "inference_stats": _summed(shown["inference_stats"] for shown in told),
        "batch_stats": [
            {"batch_size": size, **_summed({k: v for k, v in batch.items() if k != "batch_size"} for batch in held)}
            for size, held in sorted(batches.items())
        ],
    }


def _summed(durations: Iterable[Shown]) -> Shown:
    found: Shown = {}
    for held in durations:
        for name, duration in held.items():
            so_far = found.get(name, _untimed(0))
            found[name] = {key: so_far[key] + duration[key] for key in ("count", "ns")}
    return found


def _untimed(count: int) -> dict[str, int]:
    return {"count": count, "ns": 0}
