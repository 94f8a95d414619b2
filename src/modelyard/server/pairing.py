"""Paired comparisons of stored predictions, in a process of their own and remembered by the digests of the files."""

import asyncio
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from modelyard.build.tracking import artifacts
from modelyard.domain.errors import NotFound
from modelyard.registry.comparison import Side, same_rows
from modelyard.server.yard import Yard

PATIENCE_S = 60
_known: dict[tuple[str, str], dict[str, Any]] = {}


async def paired(yard: Yard, found: list[Side]) -> dict[int, dict[str, Any]]:
    """{version: differences to the first} for the versions whose predictions lie on the same rows as the first's."""
    others = [side for side in found[1:] if same_rows(found[0], side)]
    digests = await yard.store.read(lambda conn: [_digest(conn, side) for side in (found[0], *others)])
    results: dict[int, dict[str, Any]] = {}
    for side, digest in zip(others, digests[1:], strict=True):
        if digests[0] is not None and digest is not None:
            results[side.version.version] = await _measured(yard, digests[0], digest)
    return results


def _digest(conn: Connection, side: Side) -> str | None:
    place = side.content.get("reference")
    if not place:  # evidence that was attached by hand stores no predictions
        return None
    try:
        return artifacts.get(conn, place).digest
    except NotFound:
        return None


async def _measured(yard: Yard, first: str, second: str) -> dict[str, Any]:
    if (first, second) in _known:
        return _known[first, second]
    with tempfile.TemporaryDirectory(prefix="modelyard-") as name:
        files = [Path(name) / "first.parquet", Path(name) / "second.parquet"]
        for digest, file in zip((first, second), files, strict=True):
            await asyncio.to_thread(partial(yard.objects.fetch, digest, file))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "modelyard.registry.paired", *map(str, files)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                output, errors = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            return {"reason": f"the paired comparison took longer than {PATIENCE_S} s"}
    if process.returncode != 0:
        words = errors.decode("utf-8", "replace").strip().splitlines()
        return {"reason": words[-1] if words else f"the paired comparison ended with {process.returncode}"}
    if len(_known) > 1000:
        _known.clear()
    _known[first, second] = json.loads(output)
    return _known[first, second]
