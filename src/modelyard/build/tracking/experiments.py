"""Experiments: named groups of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from modelyard.build.tracking import limits
from modelyard.domain.errors import AlreadyExists, Conflict, Invalid, NotFound
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.store.statements import Statement
from modelyard.store.tables.tracking import experiment_tags, experiments, runs

ACTIVE, DELETED = "active", "deleted"
DEFAULT, DEFAULT_ID = "Default", 0
_STANDING = Statement(
    select(experiments.c.lifecycle, experiments.c.artifact_location).where(experiments.c.id == bindparam("id"))
)


@dataclass(frozen=True)
class Experiment:
    id: int
    name: str
    artifact_location: str
    lifecycle: str
    created_at: int
    updated_at: int
    tags: dict[str, str]


def create(
    conn: Connection, name: str, *, actor: str, tags: dict[str, str] | None = None, place: str = ""
) -> Experiment:
    """The new experiment; `place`: where clients keep its files, if not here.

    Raises Invalid for an empty name, AlreadyExists for a taken one.
    """
    _check_name(name)
    for tag, value in (tags or {}).items():
        limits.check_experiment_tag(tag, value)
    found = conn.execute(select(experiments).where(experiments.c.name == name)).first()
    if found is not None:
        state = " It is deleted; restore it." if found.lifecycle == DELETED else ""
        raise AlreadyExists(f"Experiment(name={name}) already exists.{state}")
    return _insert(conn, name, actor, tags or {}, None, place)


def ensure_default(conn: Connection, *, actor: str) -> None:
    """Make the experiment 0, which clients log to when they name none."""
    if conn.execute(select(experiments.c.id).where(experiments.c.id == DEFAULT_ID)).first() is None:
        _insert(conn, DEFAULT, actor, {}, DEFAULT_ID)


def require_active(conn: Connection, number: int) -> str:
    """The place of its files. Raises NotFound for an unknown experiment, Invalid for a deleted one."""
    row = _STANDING.first(conn, {"id": number})
    if row is None:
        raise NotFound(f"No Experiment with id={number} exists")
    if row[0] != ACTIVE:
        raise Invalid(f"The experiment {number} must be in the 'active' state. Current state is {row[0]}.")
    return row[1]


def _check_name(name: str) -> None:
    if not name:
        raise Invalid(f"Invalid experiment name: '{name}'")
    limits.check_length("name", name, limits.MOST_EXPERIMENT_NAME)


def _insert(
    conn: Connection, name: str, actor: str, tags: dict[str, str], number: int | None, place: str = ""
) -> Experiment:
    now = now_ms()
    values: dict[str, Any] = {} if number is None else {"id": number}
    values |= {"name": name, "artifact_location": "", "lifecycle": ACTIVE, "created_at": now, "updated_at": now}
    key = conn.execute(insert(experiments).values(values)).inserted_primary_key
    number = key[0] if key else 0
    assert number is not None
    location = place or f"mlflow-artifacts:/{number}"
    conn.execute(update(experiments).where(experiments.c.id == number).values(artifact_location=location))
    for tag, value in tags.items():
        _put_tag(conn, number, tag, value)
    data = {"name": name, **({"artifact_location": place} if place else {})}
    log.append(conn, "experiment.created", f"experiment/{number}", actor, data)
    return get(conn, number)


def ensure(conn: Connection, name: str, *, actor: str) -> Experiment:
    """The experiment of that name, made when there is none."""
    row = conn.execute(select(experiments).where(experiments.c.name == name)).first()
    return _experiment(conn, row) if row else create(conn, name, actor=actor)


def get(conn: Connection, number: int) -> Experiment:
    row = conn.execute(select(experiments).where(experiments.c.id == number)).first()
    if row is None:
        raise NotFound(f"No Experiment with id={number} exists")
    return _experiment(conn, row)


def by_name(conn: Connection, name: str) -> Experiment:
    row = conn.execute(select(experiments).where(experiments.c.name == name)).first()
    if row is None:
        raise NotFound(f"Could not find experiment with name '{name}'")
    return _experiment(conn, row)


def change(
    conn: Connection, number: int, *, actor: str, name: str | None = None, lifecycle: str | None = None
) -> None:
    """Rename, delete (softly, with its runs) or restore (with its runs).

    Raises NotFound for an experiment that is not there, or already is what it shall become.
    """
    before = get(conn, number)
    if name is not None:
        _check_name(name)
        if before.lifecycle == DELETED:
            raise Conflict("Cannot rename a non-active experiment.", remedy="Restore it first.")
        if name != before.name and conn.execute(select(experiments.c.id).where(experiments.c.name == name)).first():
            raise AlreadyExists(f"Experiment(name={name}) already exists.")
    if lifecycle is not None:
        if lifecycle == before.lifecycle:
            raise NotFound(f"No Experiment with id={number} exists")
        deleted_at = now_ms() if lifecycle == DELETED else None
        conn.execute(
            update(runs).where(runs.c.experiment_id == number).values(lifecycle=lifecycle, deleted_at=deleted_at)
        )
    values = {"name": name or before.name, "lifecycle": lifecycle or before.lifecycle, "updated_at": now_ms()}
    conn.execute(update(experiments).where(experiments.c.id == number).values(**values))
    data = {"before": [before.name, before.lifecycle], "after": [values["name"], values["lifecycle"]]}
    log.append(conn, "experiment.changed", f"experiment/{number}", actor, data)


def set_tag(conn: Connection, number: int, key: str, value: str) -> None:
    limits.check_experiment_tag(key, value)
    require_active(conn, number)
    _put_tag(conn, number, key, value)


def _put_tag(conn: Connection, number: int, key: str, value: str) -> None:
    where = (experiment_tags.c.experiment_id == number, experiment_tags.c.key == key)
    if not conn.execute(update(experiment_tags).where(*where).values(value=value)).rowcount:
        conn.execute(insert(experiment_tags).values(experiment_id=number, key=key, value=value))


def delete_tag(conn: Connection, number: int, key: str) -> None:
    require_active(conn, number)
    where = (experiment_tags.c.experiment_id == number, experiment_tags.c.key == key)
    if not conn.execute(delete(experiment_tags).where(*where)).rowcount:
        raise NotFound(f"No tag with name: {key} in experiment with id {number}")


def load(conn: Connection, rows: Sequence[Row[Any]]) -> list[Experiment]:
    """Experiments of bare rows."""
    return [_experiment(conn, row) for row in rows]


def _experiment(conn: Connection, row: Row[Any]) -> Experiment:
    query = select(experiment_tags.c.key, experiment_tags.c.value).where(experiment_tags.c.experiment_id == row.id)
    tags = {tag.key: tag.value for tag in conn.execute(query)}
    return Experiment(row.id, row.name, row.artifact_location, row.lifecycle, row.created_at, row.updated_at, tags)
