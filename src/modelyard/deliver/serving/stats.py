"""What a gateway counts for each deployment, cumulative since its start."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BOUNDS_MS = (0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000, 2000, 5000, 10_000)


@dataclass
class Counters:
    """`errors` are answers of 500 and above, `client_errors` those of 400 to 499.

    declined: of the client errors, those for input that this version does not take while another may;
    circuits: how often a worker was closed off; shadow_equal: of the compared answers, those equal byte for byte;
    named_*: the part of requests, errors, declined and counts whose requests said themselves which deployment they
    want.
    """

    requests: int = 0
    errors: int = 0
    client_errors: int = 0
    declined: int = 0
    retries: int = 0
    shadow_requests: int = 0
    shadow_errors: int = 0
    shadow_declined: int = 0
    shadow_dropped: int = 0
    shadow_compared: int = 0
    shadow_equal: int = 0
    circuits: int = 0
    named_requests: int = 0
    named_errors: int = 0
    named_declined: int = 0
    named_counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))
    total_ms: float = 0.0

    def note(self, status: int, latency_ms: float, named: bool = False, declined: bool = False) -> None:
        bucket = bisect_left(BOUNDS_MS, latency_ms)
        self.requests += 1
        self.errors += status >= 500
        self.client_errors += 400 <= status < 500
        self.declined += declined
        self.counts[bucket] += 1
        self.total_ms += latency_ms
        if named:
            self.named_requests += 1
            self.named_errors += status >= 500
            self.named_declined += declined
            self.named_counts[bucket] += 1

    def shown(self) -> dict[str, Any]:
        counted = {name: getattr(self, name) for name in COUNTED}
        latency = {"bounds": list(BOUNDS_MS), "counts": self.counts, "named": self.named_counts, "sum": self.total_ms}
        return {**counted, "latency_ms": latency}


COUNTED = {
    "requests": "Prediction requests that were answered.",
    "errors": "Answers of 500 and above.",
    "client_errors": "Answers of 400 to 499.",
    "declined": "Answers of 400 and 422 for input that this version does not take while another may.",
    "retries": "Requests asked again because a worker was lost.",
    "shadow_requests": "Requests mirrored to a shadow deployment.",
    "shadow_errors": "Mirrored requests that failed.",
    "shadow_declined": "Mirrored requests whose input this version does not take.",
    "shadow_dropped": "Requests not mirrored because too many were under way.",
    "shadow_compared": "Mirrored answers compared with the primary's.",
    "shadow_equal": "Compared answers that were equal.",
    "named_requests": "Of the answered requests, those that named their deployment.",
    "named_errors": "Of the errors, those of requests that named their deployment.",
    "named_declined": "Of the declined, those of requests that named their deployment.",
    "circuits": "Times that a worker was closed off because it did not answer in time.",
}


def prometheus(
    counters: dict[tuple[str, str, int], Counters], dropped: dict[str, int], waiting: dict[str, int] | None = None
) -> str:
    """The counters in Prometheus' text format, by (endpoint, deployment, version), each family in one group.

    dropped: log rows, waiting: asynchronous requests, both by endpoint.
    """
    labelled = [
        (f'endpoint="{endpoint}",deployment="{deployment}",version="{version}"', held)
        for (endpoint, deployment, version), held in counters.items()
    ]
    lines: list[str] = []
    for name, meaning in COUNTED.items():
        lines += [f"# HELP modelyard_{name}_total {meaning}", f"# TYPE modelyard_{name}_total counter"]
        lines += [f"modelyard_{name}_total{{{labels}}} {getattr(held, name)}" for labels, held in labelled]
    lines += ["# HELP modelyard_latency_ms Time to the answer.", "# TYPE modelyard_latency_ms histogram"]
    for labels, held in labelled:
        running = 0
        for bound, count in zip([*map(str, BOUNDS_MS), "+Inf"], held.counts, strict=True):
            running += count
            lines.append(f'modelyard_latency_ms_bucket{{{labels},le="{bound}"}} {running}')
        lines += [
            f"modelyard_latency_ms_sum{{{labels}}} {held.total_ms:.3f}",
            f"modelyard_latency_ms_count{{{labels}}} {held.requests}",
        ]
    return (
        "\n".join(lines)
        + "\n"
        + by_endpoint(
            "modelyard_dropped_log_rows_total", "counter", "Answers that the prediction log could not take.", dropped
        )
        + by_endpoint(
            "modelyard_waiting_requests",
            "gauge",
            "Asynchronous requests that wait or are being answered.",
            waiting or {},
        )
    )


def by_endpoint(name: str, kind: str, meaning: str, values: Mapping[str, int]) -> str:
    """One family with a value for each endpoint."""
    return family(name, kind, meaning, {f'endpoint="{endpoint}"': value for endpoint, value in values.items()})


def workers(told: Mapping[str, Mapping[str, int]]) -> str:
    """The workers of deployments that are scaled by load, in Prometheus' text format."""
    return family(
        "modelyard_workers",
        "gauge",
        "Workers of a deployment that is scaled by load: those that answer, those that shall run, the most.",
        {
            f'deployment="{deployment}",count="{count}"': held[count]
            for deployment, held in told.items()
            for count in ("ready", "wanted", "max")
        },
    )


def family(name: str, kind: str, meaning: str, values: Mapping[str, float]) -> str:
    """One family of Prometheus' text format; `values` by their labels as they are written."""
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{{{labels}}} {value}" for labels, value in values.items()]
    return "\n".join(lines) + "\n"


def quantile_ms(counts: list[int], share: float, bounds: tuple[float, ...] = BOUNDS_MS) -> float | None:
    """Upper bound of the bucket that holds the quantile; None without requests, infinity beyond the last."""
    total = sum(counts)
    if total == 0:
        return None
    running = 0
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        running += count
        if running >= share * total:
            return bound
    return float("inf")
