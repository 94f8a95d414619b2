"""Which workers of an environment shall run now, and what is said of those that do."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.serving import scaling
from modelyard.kit.clock import now_ms
from modelyard.kit.files import atomic_write


def wanted(folder: Path) -> dict[str, dict[str, Any]] | None:
    """By worker id what `desired.json` says of it, as many as their loads need; None before anything was said."""
    try:
        found = msgspec.json.decode((folder / "desired.json").read_bytes())["workers"]
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    counts = scaling.wanted(folder)
    return {worker["id"]: worker for worker in found if _runs(worker, counts)}


def _runs(worker: dict[str, Any], counts: dict[str, int]) -> bool:
    """Whether a worker is one of those that its deployment has now: all of them, or as many as its load needs."""
    least = worker.get("least")
    return least is None or worker["number"] < counts.get(worker["deployment"], least)


def changes(held: dict[str, Any], wanted: dict[str, Any], beside: Collection[str] = ()) -> list[str]:
    """In what a worker that runs is not as it is wanted: `memory_mb 512, wanted 1024`; `beside` need no other one."""
    names = [name for name in wanted if name not in ("least", *beside) and held.get(name) != wanted[name]]
    return [f"{name} {held.get(name)}, wanted {wanted[name]}" for name in names]


def tell(folder: Path, workers: dict[str, Any]) -> None:
    """Write what runs, where it is not what was written."""
    path = folder / "observed.json"
    try:
        held = msgspec.json.decode(path.read_bytes()).get("workers")
    except (FileNotFoundError, msgspec.DecodeError):
        held = None
    if held != workers:
        atomic_write(path, msgspec.json.encode({"workers": workers, "time": now_ms()}), durable=False)
