"""Experiments: named groups of runs."""

from dataclasses import dataclass

from sqlalchemy import Connection, Row, delete, insert, select, update

from modelyard.domain.errors import AlreadyExists, Invalid, NotFound
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.store.tables.tracking import experiment_tags, experiments

ACTIVE, DELETED = "active", "deleted"
DEFAULT = "Default"


@dataclass(frozen=True)
class Experiment:
    id: int
    name: str
    artifact_location: str
    lifecycle: str
    created_at: int
    updated_at: int
    tags: dict[str, str]


def create(conn: Connection, name: str, *, actor: str, tags: dict[str, str] | None = None) -> Experiment:
    """The new experiment. Raises Invalid for an empty name, AlreadyExists for a taken one."""
    if not name or len(name) > 500:
        raise Invalid("An experiment's name has 1 to 500 characters.", remedy="Give such a name.")
    found = conn.execute(select(experiments).where(experiments.c.name == name)).first()
    if found is not None:
        state = " (deleted; restore it)" if found.lifecycle == DELETED else ""
        raise AlreadyExists(f"Experiment '{name}' already exists{state}.")
    now = now_ms()
    values = {"name": name, "artifact_location": "", "lifecycle": ACTIVE, "created_at": now, "updated_at": now}
    key = conn.execute(insert(experiments).values(values)).inserted_primary_key
    number: int = key[0] if key else 0
    location = f"mlflow-artifacts:/{number}"
    conn.execute(update(experiments).where(experiments.c.id == number).values(artifact_location=location))
    for tag, value in (tags or {}).items():
        set_tag(conn, number, tag, value)
    log.append(conn, "experiment.created", f"experiment/{number}", actor, {"name": name})
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
    """Rename, delete (softly) or restore."""
    before = get(conn, number)
    if name is not None and name != before.name:
        if conn.execute(select(experiments.c.id).where(experiments.c.name == name)).first():
            raise AlreadyExists(f"Experiment '{name}' already exists.")
        if before.lifecycle == DELETED:
            raise Invalid("Cannot rename an experiment that is deleted.")
    values = {"name": name or before.name, "lifecycle": lifecycle or before.lifecycle, "updated_at": now_ms()}
    conn.execute(update(experiments).where(experiments.c.id == number).values(**values))
    data = {"before": [before.name, before.lifecycle], "after": [values["name"], values["lifecycle"]]}
    log.append(conn, "experiment.changed", f"experiment/{number}", actor, data)


def set_tag(conn: Connection, number: int, key: str, value: str) -> None:
    where = (experiment_tags.c.experiment_id == number, experiment_tags.c.key == key)
    if not conn.execute(update(experiment_tags).where(*where).values(value=value)).rowcount:
        conn.execute(insert(experiment_tags).values(experiment_id=number, key=key, value=value))


def delete_tag(conn: Connection, number: int, key: str) -> None:
    where = (experiment_tags.c.experiment_id == number, experiment_tags.c.key == key)
    if not conn.execute(delete(experiment_tags).where(*where)).rowcount:
        raise NotFound(f"No tag with name: {key} in experiment with id {number}")


def search(conn: Connection, lifecycles: list[str], limit: int, offset: int = 0) -> list[Experiment]:
    """Experiments, last updated first."""
    query = select(experiments).where(experiments.c.lifecycle.in_(lifecycles))
    query = query.order_by(experiments.c.updated_at.desc(), experiments.c.id.desc()).limit(limit).offset(offset)
    return [_experiment(conn, row) for row in conn.execute(query).all()]


def _experiment(conn: Connection, row: Row[tuple[object, ...]]) -> Experiment:
    query = select(experiment_tags.c.key, experiment_tags.c.value).where(experiment_tags.c.experiment_id == row.id)
    tags = {tag.key: tag.value for tag in conn.execute(query)}
    return Experiment(row.id, row.name, row.artifact_location, row.lifecycle, row.created_at, row.updated_at, tags)
