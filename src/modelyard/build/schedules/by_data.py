"""Starts by new data: which files are known, durably, and which have arrived."""

import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, update

from modelyard.build.schedules import clock, starts
from modelyard.build.schedules.starts import Ask
from modelyard.domain.pipelines import OnData, Pipeline
from modelyard.domain.sections import seconds
from modelyard.kit.clock import now_ms
from modelyard.kit.hashing import digest_file
from modelyard.kit.ids import new_id
from modelyard.store.objects.listing import REMOTE, listed
from modelyard.store.tables.pipelines import arrivals, pipeline_schedules

LONGEST_PATH = 1000
_A, _P = arrivals.c, pipeline_schedules.c


@dataclass(frozen=True)
class Known:
    """mark: what tells cheaply that a file may have changed; digest: what tells that its content did."""

    mark: str
    digest: str


def known(conn: Connection, name: str) -> dict[str, Known]:
    """The files that are known, by path."""
    rows = conn.execute(select(_A.path, _A.mark, _A.digest).where(_A.pipeline == name))
    return {path: Known(mark, digest) for path, mark, digest in rows}


def look(folder: Path, wanted: OnData, before: dict[str, Known], now: int | None = None) -> dict[str, Known]:
    """The files that are there now, by path; one that is still being written is as it was before, or absent.

    Reads the content only of files whose mark is new. Raises MissingExtra for object storage without its package.
    """
    now = now_ms() if now is None else now
    remote = wanted.path.startswith(REMOTE)
    source = wanted.path if remote else os.path.join(folder, wanted.path)
    quiet_from = (now / 1000 - seconds(wanted.settle)) * 1e9
    seen: dict[str, Known] = {}
    for found in listed(source, "Starting a pipeline by new objects"):
        path = found.name if remote or os.path.isabs(wanted.path) else os.path.relpath(found.name, folder)
        mark, held = f"{found.size}:{found.mark}", before.get(path)
        if len(path) > LONGEST_PATH:
            continue
        if held is not None and held.mark == mark:
            seen[path] = held
        elif isinstance(found.mark, str):
            seen[path] = Known(mark, mark)
        elif found.mark <= quiet_from:
            _read(seen, path, Path(found.name), mark)
        elif held is not None:
            seen[path] = held
    return seen


def _read(seen: dict[str, Known], path: str, file: Path, mark: str) -> None:
    try:
        seen[path] = Known(mark, digest_file(file))
    except OSError:
        return  # it went away, or may not be read: looked at again next time


def take_in(conn: Connection, name: str, declared: Pipeline, seen: dict[str, Known]) -> list[str]:
    """The files that arrived, taken as known and asked for in this transaction; none at the first look."""
    assert declared.on_data is not None, "only a pipeline with on_data looks"
    before, first = known(conn, name), _first_look(conn, name, declared.on_data.path)
    if first:
        conn.execute(delete(arrivals).where(_A.pipeline == name))
        before = {}
    came = [path for path, each in seen.items() if path not in before or before[path].digest != each.digest]
    _keep(conn, name, before, seen)
    if first or not came or clock.paused(conn, name):
        return []
    for files in [[each] for each in came] if declared.on_data.each else [came]:
        facts = {"file": files[0], "files": " ".join(files)}
        starts.ask(conn, name, declared, Ask(starts.DATA, f"data/{new_id()}", now_ms(), facts=facts))
    return came


def watched(conn: Connection, name: str) -> str | None:
    """The path whose files are known; None before the first look."""
    return conn.execute(select(_P.watched).where(_P.pipeline == name)).scalar()


def _first_look(conn: Connection, name: str, path: str) -> bool:
    """Whether nobody looked at this path for the pipeline before; somebody has from now on."""
    changed = update(pipeline_schedules).where(_P.pipeline == name, _P.watched.is_distinct_from(path))
    return bool(conn.execute(changed.values(watched=path)).rowcount)


def _keep(conn: Connection, name: str, before: dict[str, Known], seen: dict[str, Known]) -> None:
    stale = [path for path, each in before.items() if seen.get(path) != each]
    fresh = [path for path, each in seen.items() if before.get(path) != each]
    for path in stale:
        conn.execute(delete(arrivals).where(_A.pipeline == name, _A.path == path))
    if fresh:
        rows = [{"pipeline": name, "path": p, "mark": seen[p].mark, "digest": seen[p].digest} for p in fresh]
        conn.execute(insert(arrivals), rows)
