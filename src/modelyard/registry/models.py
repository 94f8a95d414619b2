"""Registered models: named lines of versions."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, delete, func, insert, select, update

from modelyard.domain.errors import AlreadyExists, Invalid, NotFound
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.store.tables.registry import models

PROMPT_TAG = "mlflow.prompt.is_prompt"
MOST_NAME = 256
"""As many characters as MLflow's database takes."""


@dataclass(frozen=True)
class Model:
    name: str
    description: str
    tags: dict[str, str]
    created_at: int
    updated_at: int


def create(
    conn: Connection, name: str, *, actor: str, description: str = "", tags: dict[str, str] | None = None
) -> Model:
    """The new model line. Raises Invalid for a bad name, AlreadyExists for a taken one."""
    _check_name(name)
    if find(conn, name):
        raise AlreadyExists(f"Registered Model (name={name}) already exists.")
    now = now_ms()
    made = Model(name, description, tags or {}, now, now)
    conn.execute(insert(models).values(**made.__dict__))
    log.append(conn, "model.created", f"model/{name}", actor, {"description": description})
    return made


def _check_name(name: str) -> None:
    if not name or len(name) > MOST_NAME or "/" in name or ":" in name or name in (".", ".."):
        raise Invalid(
            f"Registered model name cannot be empty, longer than {MOST_NAME} characters, '.' or '..', "
            "or hold '/' or ':'.",
            remedy="Choose a name such as flight-delay.",
        )


def find(conn: Connection, name: str) -> Model | None:
    row = conn.execute(select(models).where(models.c.name == name)).first()
    return _model(row) if row else None


def get(conn: Connection, name: str) -> Model:
    found = find(conn, name)
    if found is None:
        raise NotFound(f"Registered Model with name={name} not found")
    return found


def every(conn: Connection, limit: int = 1000, offset: int = 0, prompts: bool = False) -> list[Model]:
    """Models by name; or the prompts, which MLflow's clients keep as models with a tag."""
    told = is_prompt(models.c.tags)
    query = select(models).where(told if prompts else ~told).order_by(models.c.name).limit(limit).offset(offset)
    return [_model(row) for row in conn.execute(query)]


def is_prompt(tags: Column[Any]) -> ColumnElement[bool]:
    """Whether the tags of a registered model or version are a prompt's."""
    return func.coalesce(tags[PROMPT_TAG].as_string(), "false") == "true"


def change(conn: Connection, name: str, /, *, actor: str, **values: Any) -> Model:
    """The model after its name, description or tags changed; versions follow a rename. Tags alone do not date it."""
    before = get(conn, name)
    new_name = values.get("name", name)
    if new_name != name:
        _check_name(new_name)
        if find(conn, new_name):
            raise AlreadyExists(f"Registered Model (name={new_name}) already exists.")
    moved = {} if values.keys() == {"tags"} else {"updated_at": now_ms()}
    conn.execute(update(models).where(models.c.name == name).values(**values, **moved))
    data = {"before": {key: before.__dict__[key] for key in values}, "after": values}
    log.append(conn, "model.changed", f"model/{name}", actor, data)
    return get(conn, new_name)


def touch(conn: Connection, name: str) -> None:
    """Its versions changed: which there are, or their stages."""
    conn.execute(update(models).where(models.c.name == name).values(updated_at=now_ms()))


def set_tag(conn: Connection, name: str, key: str, value: str | None, *, actor: str) -> None:
    """Set a tag, or remove it when `value` is None."""
    tags = dict(get(conn, name).tags)
    if value is None:
        tags.pop(key, None)
    else:
        tags[key] = value
    change(conn, name, actor=actor, tags=tags)


def remove(conn: Connection, name: str, *, actor: str) -> None:
    """Delete a model line with its versions; the event log keeps what they were."""
    get(conn, name)
    conn.execute(delete(models).where(models.c.name == name))
    log.append(conn, "model.changed", f"model/{name}", actor, {"deleted": True})


def load(rows: Iterable[Row[Any]]) -> list[Model]:
    """Models of bare rows."""
    return [_model(row) for row in rows]


def _model(row: Row[Any]) -> Model:
    return Model(row.name, row.description, row.tags, row.created_at, row.updated_at)
