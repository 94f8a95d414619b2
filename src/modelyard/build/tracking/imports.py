"""Records of another store, brought in under the ids that they have there."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from modelyard.build.tracking import artifacts, experiments, metrics, runs
from modelyard.domain.errors import Conflict, Invalid
from modelyard.events import log
from modelyard.kit.hashing import sha256_hex
from modelyard.store.tables.tracking import logged_models, run_tags
from modelyard.store.tables.tracking import runs as run_rows

STAMP = "modelyard.imported"
"""The tag that ends an import: the digest of what was read. A run without it was not brought in whole."""


@dataclass(frozen=True)
class Curve:
    """A metric's history, to be compared: the number of its points and the digest of them all."""

    count: int
    digest: str


@dataclass(frozen=True)
class Held:
    """What the yard holds of a run, to be compared with where it came from."""

    params: dict[str, str]
    tags: dict[str, str]
    curves: dict[str, Curve]
    files: list[artifacts.Artifact]


def curve_of(points: Iterable[tuple[int, int, float]]) -> Curve:
    """Of points as (time, step, value), in any order; a point that is there twice counts once."""
    texts = sorted({f"{time} {step} {value + 0.0!r}" for time, step, value in points})  # -0.0 is kept as 0.0
    return Curve(len(texts), sha256_hex("\n".join(texts).encode()))


def begin_run(
    conn: Connection,
    run_id: str,
    experiment_id: int,
    *,
    actor: str,
    name: str,
    user: str,
    started_at: int,
    origin: str,
) -> str | None:
    """Make the run, open to be written; the stamp of its last import when it is there.

    Raises Invalid for an id that is none, Conflict for one that this yard gave to a run of another experiment.
    """
    _check_id(run_id)
    row = conn.execute(select(run_rows).where(run_rows.c.id == run_id)).first()
    if row is not None:
        if row.experiment_id != experiment_id:
            raise Conflict(f"Run {run_id} is in another experiment here.", remedy="Import into an empty yard.")
        stamped = (run_tags.c.run == row.num, run_tags.c.key == STAMP)
        return conn.execute(select(run_tags.c.value).where(*stamped)).scalar()
    conn.execute(
        insert(run_rows).values(
            id=run_id,
            experiment_id=experiment_id,
            name=name[:250],
            user_id=user[:256],
            author=user[:200] or actor,
            status=runs.RUNNING,
            lifecycle=experiments.ACTIVE,
            started_at=started_at,
        )
    )
    data = {"experiment": experiment_id, "name": name[:250], "imported_from": origin}
    log.append(conn, "run.created", f"run/{run_id}", actor, data)
    return None


def reopen_run(conn: Connection, run_id: str) -> None:
    """Let a run that was imported before be written again."""
    conn.execute(update(run_rows).where(run_rows.c.id == run_id).values(lifecycle=experiments.ACTIVE))


def end_run(
    conn: Connection, run_id: str, *, actor: str, status: str, ended_at: int | None, lifecycle: str, stamp: str
) -> None:
    """Give the run its end and its stamp."""
    row = runs.row_of(conn, run_id)
    if status not in runs.STATUSES or lifecycle not in (experiments.ACTIVE, experiments.DELETED):
        raise Invalid(f"{status!r}, {lifecycle!r} is no status and lifecycle of a run.")
    runs.write_tags(conn, row.num, {STAMP: stamp})
    values = {"status": status, "ended_at": ended_at, "lifecycle": lifecycle}
    conn.execute(update(run_rows).where(run_rows.c.num == row.num).values(**values))
    log.append(conn, "run.ended", f"run/{run_id}", actor, {"status": status, "imported": True})


def held(conn: Connection, run_id: str) -> Held:
    """Raises NotFound."""
    run = runs.get(conn, run_id)
    curves = {
        point.key: curve_of((at.time, at.step, at.value) for at in metrics.history(conn, run.num, point.key))
        for point in run.metrics
    }
    tags = {key: value for key, value in run.tags.items() if key != STAMP}
    return Held(run.params, tags, curves, artifacts.under(conn, artifacts.run_root(run.experiment_id, run_id)))


def put_logged_model(
    conn: Connection, model_id: str, experiment_id: int, *, actor: str, values: dict[str, Any]
) -> str:
    """The artifact root of a logged model, made when it is not there. Raises Conflict for a taken id."""
    _check_id(model_id.removeprefix("m-"))
    row = conn.execute(select(logged_models).where(logged_models.c.id == model_id)).first()
    if row is not None and row.experiment_id != experiment_id:
        raise Conflict(f"Logged model {model_id} is in another experiment here.", remedy="Import into an empty yard.")
    if row is None:
        conn.execute(insert(logged_models).values(id=model_id, experiment_id=experiment_id, deleted=False, **values))
        data = {"run": values["run_id"], "name": values["name"], "imported": True}
        log.append(conn, "logged-model.created", f"logged-model/{model_id}", actor, data)
    return artifacts.model_root(experiment_id, model_id)


def _check_id(text: str) -> None:
    if not 8 <= len(text) <= 62 or not text.isalnum():
        raise Invalid(f"{text[:80]!r} is not an id.", remedy="Ids are 8 to 62 letters and digits.")
