"""Which workers of an environment shall run now, where, and what is said of those that do."""

import asyncio
import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.serving import probe, scaling, starts
from modelyard.kit.clock import now_ms
from modelyard.kit.files import atomic_write

LOOK_S = 0.1
Specs = dict[str, dict[str, Any]]


def wanted(folder: Path) -> Specs | None:
    """By worker id what `desired.json` says of it, as many as their loads need; None before anything was said."""
    try:
        found = msgspec.json.decode((folder / "desired.json").read_bytes())["workers"]
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    counts = scaling.wanted(folder)
    return {worker["id"]: worker for worker in found if _runs(worker, counts)}


def wanted_at(folder: Path, cluster: str | None) -> Specs | None:
    """Those of one cluster, or None: of this machine."""
    found = wanted(folder)
    return None if found is None else {name: spec for name, spec in found.items() if spec.get("ray") == cluster}


def _runs(worker: dict[str, Any], counts: dict[str, int]) -> bool:
    """Whether a worker is one of those that its deployment has now: all of them, or as many as its load needs."""
    least = worker.get("least")
    return least is None or worker["number"] < counts.get(worker["deployment"], least)


def changes(held: dict[str, Any], wanted: dict[str, Any], beside: Collection[str] = ()) -> list[str]:
    """In what a worker that runs is not as it is wanted: `memory_mb 512, wanted 1024`; `beside` need no other one."""
    names = [name for name in wanted if name not in ("least", *beside) and held.get(name) != wanted[name]]
    return [f"{name} {_shown(held.get(name))}, wanted {_shown(wanted[name])}" for name in names]


def _shown(value: Any) -> Any:
    return "none" if value is None else value


async def taken_over(folder: Path, name: str, cluster: str | None) -> None:
    """Until a worker that ran at `cluster` answers from where it is wanted by now, or is not wanted elsewhere."""
    while True:
        spec = (wanted(folder) or {}).get(name)
        if spec is None or spec.get("ray") == cluster:
            return
        pid = (told(folder, spec.get("ray")) or {}).get(name, {}).get("pid")
        if pid is not None and (spec.get("ray") is not None or await _answers(spec["socket"], pid)):
            return
        await asyncio.sleep(LOOK_S)


async def _answers(socket: str, pid: int) -> bool:
    """Whether it is this process that answers; one of a cluster may, as long as it does not."""
    return (await probe.ask(socket) or {}).get("pid") == pid


def tell(folder: Path, workers: dict[str, Any], cluster: str | None = None) -> None:
    """Write what runs at a cluster, or on this machine, where it is not what was written."""
    if told(folder, cluster) != workers:
        written = msgspec.json.encode({"workers": workers, "time": now_ms()})
        atomic_write(_file(folder, cluster), written, durable=False)


def observed(folder: Path) -> dict[str, Any]:
    """{worker id: {pid, restarts, deaths, last_exit, ...}} as who runs it said last."""
    specs = wanted(folder) or {}
    found = told(folder, None) or {}
    for cluster in {spec["ray"] for spec in specs.values() if spec.get("ray") is not None}:
        there = {name: said for name, said in (told(folder, cluster) or {}).items() if name in specs}
        found |= {name: said for name, said in there.items() if specs[name]["ray"] == cluster}
    return found


def told(folder: Path, cluster: str | None) -> dict[str, Any] | None:
    """`observed` of one place alone; None before anything was said."""
    try:
        return msgspec.json.decode(_file(folder, cluster).read_bytes())["workers"]
    except (OSError, msgspec.DecodeError, KeyError):
        return None


def _file(folder: Path, cluster: str | None) -> Path:
    of = "" if cluster is None else "-" + hashlib.sha256(cluster.encode()).hexdigest()[:8]
    return folder / f"{starts.FILE}{of}.json"
