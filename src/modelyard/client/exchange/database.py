"""MLflow's SQL store, read table by table; whatever columns a release added or lacks."""

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import MetaData, Table, create_engine, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from modelyard.client.exchange.records import Experiment, Json, LoggedModel, Model, ModelPoint, Point, Run, Version
from modelyard.client.exchange.rest import finite_or_not
from modelyard.domain.errors import Invalid, Unavailable

MODEL_STATUS = {
    0: "LOGGED_MODEL_STATUS_UNSPECIFIED",
    1: "LOGGED_MODEL_PENDING",
    2: "LOGGED_MODEL_READY",
    3: "LOGGED_MODEL_UPLOAD_FAILED",
}


class DatabaseSource:
    """Reads an MLflow database on a connection that changes nothing."""

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise Invalid(f"{url[:100]!r} is not a database URL.") from error
        if parsed.get_backend_name() == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        elif parsed.get_backend_name() == "sqlite" and parsed.database:
            parsed = parsed.set(database=f"file:{parsed.database}", query={"mode": "ro", "uri": "true"})
        self._engine = create_engine(parsed)
        self._tables = MetaData()
        try:
            self._tables.reflect(self._engine)
        except SQLAlchemyError as error:
            self._engine.dispose()
            raise Unavailable(f"{url} cannot be read: {str(error).splitlines()[0]}.", remedy="Check it.") from error
        if not {"experiments", "runs", "metrics"} <= set(self._tables.tables):
            self._engine.dispose()
            raise Invalid(f"{url} holds no MLflow tables.", remedy="Name the --backend-store-uri of your MLflow.")
        self._connection = self._engine.connect()

    def experiments(self) -> Iterator[Experiment]:
        tags = self._pairs("experiment_tags", "experiment_id")
        for row in self._rows("experiments", order="experiment_id"):
            number = row["experiment_id"]
            yield Experiment(str(number), row["name"], row["lifecycle_stage"] or "active", tags.get(number, {}))

    def runs(self, experiment: Experiment) -> Iterator[Run]:
        held = list(self._rows("runs", order="start_time", experiment_id=int(experiment.id)))
        for start in range(0, len(held), 500):
            part = held[start : start + 500]
            ids = [row["run_uuid"] for row in part]
            params = self._pairs("params", "run_uuid", ids)
            tags = self._pairs("tags", "run_uuid", ids)
            latest = self._pairs("latest_metrics", "run_uuid", ids)
            inputs = self._inputs(ids)
            for row in part:
                own = row["run_uuid"]
                notes = tags.get(own, {})
                yield Run(
                    id=own,
                    experiment=experiment.id,
                    name=notes.get("mlflow.runName") or row["name"] or "",
                    user=row["user_id"] or notes.get("mlflow.user", ""),
                    status=row["status"] or "FINISHED",
                    lifecycle=row["lifecycle_stage"] or "active",
                    started_at=row["start_time"] or 0,
                    ended_at=row["end_time"],
                    artifact_uri=row["artifact_uri"] or "",
                    params=params.get(own, {}),
                    tags=notes,
                    datasets=inputs["datasets"].get(own, []),
                    model_inputs=inputs["model_inputs"].get(own, []),
                    model_outputs=inputs["model_outputs"].get(own, []),
                    mark=latest.get(own, {}),
                )

    def history(self, run: Run) -> Iterator[Point]:
        for row in self._rows("metrics", order="timestamp", run_uuid=run.id):
            value = float("nan") if row.get("is_nan") else finite_or_not(row["value"])
            yield Point(row["key"], value, row["timestamp"], row["step"])

    def logged_models(self, experiment: Experiment) -> Iterator[LoggedModel]:
        if "logged_models" not in self._tables.tables:
            return
        held = list(self._rows("logged_models", order="creation_timestamp_ms", experiment_id=int(experiment.id)))
        held = [row for row in held if row["lifecycle_stage"] != "deleted"]
        ids = [row["model_id"] for row in held]
        params = self._pairs("logged_model_params", "model_id", ids, "param_key", "param_value")
        tags = self._pairs("logged_model_tags", "model_id", ids, "tag_key", "tag_value")
        for row in held:
            yield LoggedModel(
                id=row["model_id"],
                experiment=experiment.id,
                name=row["name"],
                run_id=row["source_run_id"],
                artifact_uri=row["artifact_location"],
                status=MODEL_STATUS.get(row["status"], str(row["status"])),
                model_type=row["model_type"] or "",
                created_at=row["creation_timestamp_ms"],
                updated_at=row["last_updated_timestamp_ms"],
                params=params.get(row["model_id"], {}),
                tags=tags.get(row["model_id"], {}),
                points=[
                    _model_point(point) for point in self._rows("logged_model_metrics", model_id=row["model_id"])
                ],
            )

    def models(self) -> Iterator[Model]:
        tags = self._pairs("registered_model_tags", "name")
        aliases = self._pairs("registered_model_aliases", "name", None, "alias", "version")
        for row in self._rows("registered_models", order="name"):
            held = {alias: int(number) for alias, number in aliases.get(row["name"], {}).items()}
            yield Model(row["name"], row["description"] or "", tags.get(row["name"], {}), held)

    def versions(self, model: Model) -> Iterator[Version]:
        tags: dict[int, dict[str, str]] = {}
        for row in self._rows("model_version_tags", name=model.name):
            tags.setdefault(row["version"], {})[row["key"]] = row["value"]
        for row in self._rows("model_versions", order="version", name=model.name):
            if row["current_stage"] == "Deleted_Internal":
                continue
            yield Version(
                model=model.name,
                version=row["version"],
                source=row["source"] or "",
                run_id=row["run_id"] or None,
                model_id=model_of(row["source"] or ""),
                description=row["description"] or "",
                user=row["user_id"] or "",
                stage=row["current_stage"] or "None",
                created_at=row["creation_time"] or 0,
                updated_at=row["last_updated_time"] or 0,
                tags=tags.get(row["version"], {}),
            )

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()

    def _rows(self, table_name: str, order: str | None = None, **equal: Any) -> Iterator[dict[str, Any]]:
        table = self._tables.tables.get(table_name)
        if table is None:
            return
        query = select(table).where(*(table.c[column] == value for column, value in equal.items()))
        if order is not None:
            query = query.order_by(table.c[order])
        for row in self._connection.execution_options(yield_per=1000).execute(query).mappings():
            yield dict(row)

    def _pairs(
        self, name: str, owner: str, among: Iterable[Any] | None = None, key: str = "key", value: str = "value"
    ) -> dict[Any, dict[str, Any]]:
        """{owner: {key: value}} of a table of such."""
        table = self._tables.tables.get(name)
        if table is None:
            return {}
        query = select(table.c[owner], table.c[key], table.c[value])
        if among is not None:
            query = query.where(table.c[owner].in_(list(among)))
        found: dict[Any, dict[str, Any]] = {}
        for mine, name_of, held in self._connection.execute(query):
            found.setdefault(mine, {})[name_of] = held
        return found

    def _inputs(self, ids: list[str]) -> dict[str, dict[str, list[Json]]]:
        """Datasets and models that runs read or wrote, in the shapes of MLflow's REST answers."""
        found: dict[str, dict[str, list[Json]]] = {"datasets": {}, "model_inputs": {}, "model_outputs": {}}
        inputs = self._tables.tables.get("inputs")
        if inputs is None:
            return found
        query = select(inputs).where(inputs.c.destination_id.in_(ids) | inputs.c.source_id.in_(ids))
        for row in self._connection.execute(query).mappings().all():
            if row["source_type"] == "DATASET":
                dataset = self._dataset(row["source_id"], row["input_uuid"])
                if dataset is not None:
                    found["datasets"].setdefault(row["destination_id"], []).append(dataset)
            elif row["destination_type"] == "MODEL_INPUT":
                found["model_inputs"].setdefault(row["source_id"], []).append({"model_id": row["destination_id"]})
            elif row["destination_type"] == "MODEL_OUTPUT":
                made = {"model_id": row["destination_id"], "step": str(row.get("step") or 0)}
                found["model_outputs"].setdefault(row["source_id"], []).append(made)
        return found

    def _dataset(self, dataset_id: str, input_id: str) -> Json | None:
        datasets, tags = self._table("datasets"), self._table("input_tags")
        row = (
            self._connection.execute(select(datasets).where(datasets.c.dataset_uuid == dataset_id)).mappings().first()
        )
        if row is None:
            return None
        query = select(tags.c.name, tags.c.value).where(tags.c.input_uuid == input_id)
        return {
            "tags": [{"key": name, "value": value} for name, value in self._connection.execute(query)],
            "dataset": {
                "name": row["name"],
                "digest": row["digest"],
                "source_type": row["dataset_source_type"],
                "source": row["dataset_source"],
                "schema": row["dataset_schema"] or "",
                "profile": row["dataset_profile"] or "",
            },
        }

    def _table(self, name: str) -> Table:
        return self._tables.tables[name]


def _model_point(row: dict[str, Any]) -> ModelPoint:
    value = finite_or_not(row["metric_value"] or 0.0)
    point = Point(row["metric_name"], value, row["metric_timestamp_ms"], row["metric_step"])
    return ModelPoint(row["run_id"], point, row["dataset_name"] or None, row["dataset_digest"] or None)


def model_of(source: str) -> str | None:
    """The logged model that a version's source names: models:/m-... or .../models/m-.../artifacts."""
    for part in source.removeprefix("models:/").split("/"):
        if part.startswith("m-") and len(part) == 34:
            return part
    return None
