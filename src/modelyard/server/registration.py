"""Registering a version: where its files, author and lineage are looked up before the registry records it."""

from typing import Any

from sqlalchemy import Connection

from modelyard.build.tracking import runs
from modelyard.build.tracking.runs import Run
from modelyard.domain.permissions import Principal
from modelyard.registry import versions
from modelyard.registry.versions import Version
from modelyard.server import origins

CODE_TAGS = {
    "commit": "mlflow.source.git.commit",
    "dirty": "modelyard.git.dirty",
    "environment": "modelyard.environment",
    "source": "mlflow.source.name",
}


def register(
    conn: Connection,
    name: str,
    source: str,
    *,
    actor: Principal,
    run_id: str | None = None,
    model_id: str | None = None,
    bare: bool = False,
    **details: Any,
) -> Version:
    """The new version of the files at `source`.

    source: models:/m-..., models:/<name>/<version>, runs:/<id>/path or mlflow-artifacts:/path.
    bare: the source may hold no files, be in a store that is not ours, or a prompt's placeholder; such a version can
    be loaded by who can reach its source, and is never approved. Its run may be unknown here.
    Raises Invalid for any other place, and for a source that does not belong to the named run or model.
    """
    tags = details.get("tags") or {}
    origin = origins.find(conn, source, run_id=run_id, model_id=model_id, tags=tags, bare=bare)
    if origin.run_id and runs.find(conn, origin.run_id) is not None:
        run = runs.get(conn, origin.run_id)
        details["author"] = details.get("author") or run.author
        details["lineage"] = details.get("lineage") or _noted(run)
    place: dict[str, Any] = {"source": source, **origin.__dict__}
    return versions.register(conn, name, actor=actor, bare=bare, **place, **details)


def _noted(run: Run) -> dict[str, Any]:
    """What a run of a stock client tells of its code, environment and parameters."""
    code = {name: run.tags[tag] for name, tag in CODE_TAGS.items() if run.tags.get(tag)}
    return {"params": run.params, **({"code": code} if code else {})}
