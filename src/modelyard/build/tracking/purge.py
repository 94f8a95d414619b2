"""Removing for good what was deleted: runs, logged models and experiments, with their rows and artifacts."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, exists, or_, select

from modelyard.build.tracking import artifacts as files
from modelyard.build.tracking.experiments import DEFAULT_ID, DELETED
from modelyard.store.tables.registry import versions
from modelyard.store.tables.tracking import artifacts, experiments, logged_models, model_metrics, runs

PART = 200


@dataclass(frozen=True)
class Purged:
    """How many of each were removed; `left` says whether more are to go (call again)."""

    runs: int
    logged_models: int
    experiments: int
    files: int
    left: bool


def purge(conn: Connection, deleted_before: int) -> Purged:
    """Remove a part of what was deleted before that time; never the files of a registered version."""
    doomed = select(runs.c.num, runs.c.id, runs.c.experiment_id).where(runs.c.lifecycle == DELETED)
    found = conn.execute(doomed.where(runs.c.deleted_at <= deleted_before).limit(PART)).all()
    removed = sum(_remove_files(conn, files.run_root(row.experiment_id, row.id)) for row in found)
    conn.execute(delete(runs).where(runs.c.num.in_([row.num for row in found])))
    models = conn.execute(
        select(logged_models.c.id, logged_models.c.experiment_id)
        .where(logged_models.c.deleted, logged_models.c.updated_at <= deleted_before)
        .where(~exists().where(versions.c.model_id == logged_models.c.id))
        .limit(PART)
    ).all()
    removed += sum(_remove_files(conn, files.model_root(row.experiment_id, row.id)) for row in models)
    conn.execute(delete(model_metrics).where(model_metrics.c.model_id.in_([row.id for row in models])))
    conn.execute(delete(logged_models).where(logged_models.c.id.in_([row.id for row in models])))
    gone = conn.execute(delete(experiments).where(*_empty(deleted_before))).rowcount
    return Purged(len(found), len(models), gone, removed, len(found) == PART or len(models) == PART)


def _empty(deleted_before: int) -> Sequence[ColumnElement[bool]]:
    """Experiments that were deleted and hold nothing any more."""
    number = experiments.c.id
    return (
        experiments.c.lifecycle == DELETED,
        experiments.c.updated_at <= deleted_before,
        number != DEFAULT_ID,
        ~exists().where(runs.c.experiment_id == number),
        ~exists().where(logged_models.c.experiment_id == number),
    )


def _remove_files(conn: Connection, root: str) -> int:
    below = (artifacts.c.path >= root + "/") & (artifacts.c.path < root + "0")
    return conn.execute(delete(artifacts).where(or_(artifacts.c.path == root, below))).rowcount
