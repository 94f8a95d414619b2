"""What a deployment must show before it gets traffic, tried against its warm worker in a process of its own.

python -m modelyard.deliver.deployments.before_traffic PLAN.json prints {"passed": [...], "failed": [...],
"breaking": [...]}, each a list of sentences.
"""

import asyncio
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.serving import probe
from modelyard.deliver.serving.upstream import WorkerLost
from modelyard.domain.contracts import OUTPUTS

LATENCY_CALLS = 50
FIRST_ANSWER_S = 60.0
"""A model's first prediction may load libraries; the smoke request pays for that, so that no client does."""
WIDER = {
    "integer": {"long", "float", "double"},
    "long": {"double"},
    "float": {"double"},
    "boolean": set[str](),
}
"""What a caller that sends the key's type may be asked for instead, without noticing."""


class Plan(msgspec.Struct, frozen=True):
    """What is tried: a worker's socket, its model, the one before it, the reference window, the declared limits."""

    socket: str
    model_dir: str
    live_dir: str | None = None
    reference: str | None = None
    smoke_rows: int = 20
    parity_tolerance: float = 1e-6
    latency_p95_ms: float | None = None
    memory_mb: float | None = None


class Findings:
    def __init__(self) -> None:
        self.passed: list[str] = []
        self.failed: list[str] = []
        self.breaking: list[str] = []

    def check(self, holds: bool, passed: str, failed: str) -> None:
        (self.passed if holds else self.failed).append(passed if holds else failed)


async def examine(plan: Plan) -> Findings:
    """Everything that was found; a check whose ground is missing (no reference window) is left out."""
    found = Findings()
    if plan.live_dir is not None:
        found.breaking += breaking_changes(_described(plan.live_dir), _described(plan.model_dir))
    rows, predicted = _reference(plan)
    if rows:
        body = _request(rows)
    else:
        example = Path(plan.model_dir) / "serving_input_example.json"
        body = example.read_bytes() if example.exists() else b""
    if not body:
        return found
    try:
        answers = await _smoke(plan.socket, body, found)
        if answers is not None and predicted:
            _compare(answers, predicted, plan.parity_tolerance, found)
        if plan.latency_p95_ms is not None and not found.failed:
            single = [_request([row]) for row in rows] or [body]
            await _latency(plan.socket, single, plan.latency_p95_ms, found)
    except (WorkerLost, TimeoutError) as error:
        found.failed.append(f"the smoke request got no answer ({type(error).__name__})")
    if plan.memory_mb is not None:
        await _memory(plan.socket, plan.memory_mb, found)
    return found


async def _smoke(socket: str, body: bytes, found: Findings) -> list[Any] | None:
    status, answer = await probe.predict(socket, body, FIRST_ANSWER_S)
    if status != 200:
        shown = answer[:300].decode("utf-8", "replace")
        found.failed.append(f"the smoke request was answered {status}: {shown}")
        return None
    predictions = json.loads(answer)["predictions"]
    answers: list[Any] = predictions if isinstance(predictions, list) else [predictions]
    found.passed.append(f"the smoke request of {len(answers)} row(s) was answered")
    return answers


def _compare(answers: list[Any], predicted: list[float], tolerance: float, found: Findings) -> None:
    """Parity: the worker answers what the registered evaluation predicted for the same rows."""
    given = [_number(answer) for answer in answers]
    far = 0.0
    for ours, theirs in zip(given, predicted, strict=False):
        wrong = ours is None or math.isnan(ours) != math.isnan(theirs)
        far = max(far, math.inf if wrong else abs((ours or 0.0) - theirs) / (1 + abs(theirs)))
    same = len(given) == len(predicted) and not far > tolerance
    found.check(
        same,
        f"it predicts the reference window as registered (within {far:.1g})",
        f"it predicts the reference window otherwise than registered: off by {far:.3g}, allowed {tolerance:g}",
    )


async def _latency(socket: str, bodies: list[bytes], limit: float, found: Findings) -> None:
    times: list[float] = []
    for call in range(LATENCY_CALLS):
        started = time.perf_counter()
        await probe.predict(socket, bodies[call % len(bodies)])
        times.append((time.perf_counter() - started) * 1000)
    slow = sorted(times)[int(0.95 * len(times))]
    found.check(
        slow <= limit, f"latency p95 {slow:.1f} ms", f"latency p95 {slow:.1f} ms > {limit:g} ms before traffic"
    )


async def _memory(socket: str, limit: float, found: Findings) -> None:
    state = await probe.ask(socket) or {}
    if not state.get("rss_mb"):
        return
    used = state["rss_mb"]
    found.check(used <= limit, f"memory {used:.0f} MB", f"memory {used:.0f} MB > {limit:g} MB before traffic")


def breaking_changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What callers of the version before would notice: new required columns, narrower types, other outputs."""
    held, wanted = _columns(before, "inputs"), _columns(after, "inputs")
    changes: list[str] = []
    if held:
        for name, column in wanted.items():
            if name not in held:
                if column.get("required", True):
                    changes.append(f"column {name!r} ({column['type']}) is new and required")
            elif column["type"] != held[name]["type"] and column["type"] not in WIDER.get(held[name]["type"], set()):
                changes.append(f"column {name!r} was {held[name]['type']} and is {column['type']}")
            elif column.get("required", True) and not held[name].get("required", True):
                changes.append(f"column {name!r} is required now")
    given, gives = _columns(before, "outputs"), _columns(after, "outputs")
    if given and gives:
        kinds = [[column.get("type") for column in item.values()] for item in (given, gives)]
        if len(kinds[0]) != len(kinds[1]) or any(
            new != old and new not in WIDER.get(str(old), set()) for old, new in zip(*kinds, strict=True)
        ):
            changes.append(f"the output was {', '.join(map(str, kinds[0]))} and is {', '.join(map(str, kinds[1]))}")
    return changes


def _columns(described: dict[str, Any], part: str) -> dict[str, dict[str, Any]]:
    items = json.loads((described.get("signature") or {}).get(part) or "[]")
    return {item.get("name", str(place)): item for place, item in enumerate(items) if "type" in item}


def _described(folder: str) -> dict[str, Any]:
    import yaml  # the process of these checks alone

    return yaml.safe_load((Path(folder) / "MLmodel").read_text()) or {}


def _reference(plan: Plan) -> tuple[list[dict[str, Any]], list[float]]:
    """(rows of the reference window, the predictions registered with them)."""
    if plan.reference is None or plan.smoke_rows == 0:
        return [], []
    import pyarrow.parquet as pq  # the process of these checks alone

    batch = next(pq.ParquetFile(plan.reference).iter_batches(batch_size=plan.smoke_rows), None)
    rows = batch.to_pylist() if batch is not None else []
    predicted = [row["prediction"] for row in rows if isinstance(row.get("prediction"), int | float)]
    inputs = [{name: value for name, value in row.items() if name not in OUTPUTS} for row in rows]
    return inputs, [float(value) for value in predicted] if len(predicted) == len(rows) else []


def _request(rows: list[dict[str, Any]]) -> bytes:
    columns = list(rows[0])
    data = [[_plain(row[name]) for name in columns] for row in rows]
    return msgspec.json.encode({"dataframe_split": {"columns": columns, "data": data}})


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _number(answer: Any) -> float | None:
    """One number of an answer, as the evaluation scores it: the last of a row of probabilities, or the value."""
    if isinstance(answer, list):
        return _number(answer[-1]) if answer else None
    return float(answer) if isinstance(answer, int | float) else None


def main() -> int:
    plan = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan)
    found = asyncio.run(examine(plan))
    sys.stdout.write(json.dumps(found.__dict__))
    return 0


if __name__ == "__main__":
    sys.exit(main())
