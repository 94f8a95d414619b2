"""Logged models: what a run wrote, not yet registered."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from modelyard.build.tracking import artifacts, experiments
from modelyard.domain.errors import NotFound
from modelyard.events import log
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id, random_name
from modelyard.store.tables.tracking import logged_models

PENDING, READY, FAILED = "LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED"


@dataclass(frozen=True)
class LoggedModel:
    id: str
    experiment_id: int
    name: str
    run_id: str | None
    model_type: str
    status: str
    deleted: bool
    created_at: int
    updated_at: int
    params: dict[str, str]
    tags: dict[str, str]
    elsewhere: str | None = None

    @property
    def location(self) -> str:
        """The URI of its files."""
        return self.elsewhere or artifacts.SCHEME + artifacts.model_root(self.experiment_id, self.id)


def create(
    conn: Connection,
    experiment_id: int,
    *,
    actor: str,
    name: str | None,
    run_id: str | None,
    model_type: str = "",
    params: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    where_told: bool = False,
) -> LoggedModel:
    """The new logged model, pending until its files are there; `where_told` as for runs."""
    place = experiments.require_active(conn, experiment_id)
    now, model_id = now_ms(), f"m-{new_id()}"
    made = LoggedModel(
        id=model_id,
        experiment_id=experiment_id,
        name=name or random_name(),
        run_id=run_id,
        model_type=model_type,
        status=PENDING,
        deleted=False,
        created_at=now,
        updated_at=now,
        params=params or {},
        tags=tags or {},
        elsewhere=artifacts.below(place, f"models/{model_id}/artifacts") if where_told else None,
    )
    conn.execute(insert(logged_models).values(**made.__dict__))
    log.append(conn, "logged-model.created", f"logged-model/{made.id}", actor, {"run": run_id, "name": made.name})
    return made


def get(conn: Connection, model_id: str, allow_deleted: bool = False) -> LoggedModel:
    row = conn.execute(select(logged_models).where(logged_models.c.id == model_id)).first()
    if row is None or (row.deleted and not allow_deleted):
        raise NotFound(f"Logged model with ID '{model_id}' not found.")
    return _model(row)


def change(conn: Connection, model_id: str, *, allow_deleted: bool = False, **values: Any) -> LoggedModel:
    """The model after some of status, params, tags, deleted changed."""
    get(conn, model_id, allow_deleted)
    conn.execute(update(logged_models).where(logged_models.c.id == model_id).values(**values, updated_at=now_ms()))
    row = conn.execute(select(logged_models).where(logged_models.c.id == model_id)).one()
    return _model(row)


def delete(conn: Connection, model_id: str) -> None:
    """Hide a model; one that is hidden already stays so. Raises NotFound."""
    if not get(conn, model_id, allow_deleted=True).deleted:
        change(conn, model_id, deleted=True)


def of_run(conn: Connection, run_id: str) -> list[LoggedModel]:
    query = select(logged_models).where(logged_models.c.run_id == run_id, ~logged_models.c.deleted)
    return [_model(row) for row in conn.execute(query.order_by(logged_models.c.created_at))]


def load(rows: Iterable[Row[Any]]) -> list[LoggedModel]:
    """Logged models of bare rows."""
    return [_model(row) for row in rows]


def _model(row: Row[Any]) -> LoggedModel:
    return LoggedModel(**row._mapping)  # pyright: ignore[reportPrivateUsage]
