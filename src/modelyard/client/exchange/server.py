"""An MLflow tracking server, read through its REST protocol."""

from collections.abc import Iterator

from modelyard.client.exchange.database import model_of
from modelyard.client.exchange.records import (
    PROMPT_TAG,
    Experiment,
    Json,
    LoggedModel,
    Model,
    ModelPoint,
    Point,
    Run,
    Version,
)
from modelyard.client.exchange.rest import MlflowRest, mapping, number, point_of
from modelyard.domain.errors import NotFound


class ServerSource:
    """Reads what a server holds, deleted runs and experiments included."""

    def __init__(self, rest: MlflowRest) -> None:
        self._rest = rest

    def experiments(self) -> Iterator[Experiment]:
        query = {"max_results": 1000, "view_type": "ALL"}
        for item in self._rest.pages("experiments/search", "experiments", query, post=True):
            lifecycle = item.get("lifecycle_stage", "active")
            yield Experiment(item["experiment_id"], item["name"], lifecycle, mapping(item.get("tags")))

    def runs(self, experiment: Experiment) -> Iterator[Run]:
        query: Json = {"experiment_ids": [experiment.id], "run_view_type": "ALL", "max_results": 200}
        query["order_by"] = ["attributes.start_time ASC"]
        for item in self._rest.pages("runs/search", "runs", query, post=True):
            info, data = item["info"], item.get("data", {})
            tags = mapping(data.get("tags"))
            yield Run(
                id=info.get("run_id") or info["run_uuid"],
                experiment=experiment.id,
                name=tags.get("mlflow.runName") or info.get("run_name", ""),
                user=info.get("user_id", ""),
                status=info.get("status", "FINISHED"),
                lifecycle=info.get("lifecycle_stage", "active"),
                started_at=int(info.get("start_time") or 0),
                ended_at=int(info["end_time"]) if info.get("end_time") else None,
                artifact_uri=info.get("artifact_uri", ""),
                params=mapping(data.get("params")),
                tags=tags,
                datasets=item.get("inputs", {}).get("dataset_inputs", []),
                model_inputs=item.get("inputs", {}).get("model_inputs", []),
                model_outputs=item.get("outputs", {}).get("model_outputs", []),
                mark={point["key"]: number(point["value"]) for point in data.get("metrics", [])},
            )

    def history(self, run: Run) -> Iterator[Point]:
        for key in run.mark:
            query = {"run_id": run.id, "metric_key": key, "max_results": 25_000}
            for point in self._rest.pages("metrics/get-history", "metrics", query, post=False):
                yield point_of(point, stored=True)

    def logged_models(self, experiment: Experiment) -> Iterator[LoggedModel]:
        query = {"experiment_ids": [experiment.id], "max_results": 50}
        try:
            for item in self._rest.pages("logged-models/search", "models", query, post=True):
                info, data = item["info"], item.get("data", {})
                yield LoggedModel(
                    id=info["model_id"],
                    experiment=experiment.id,
                    name=info.get("name", ""),
                    run_id=info.get("source_run_id") or None,
                    artifact_uri=info.get("artifact_uri", ""),
                    status=info.get("status", "LOGGED_MODEL_READY"),
                    model_type=info.get("model_type", ""),
                    created_at=int(info.get("creation_timestamp_ms") or 0),
                    updated_at=int(info.get("last_updated_timestamp_ms") or 0),
                    params=mapping(data.get("params")),
                    tags=mapping(info.get("tags")),
                    points=[_model_point(item) for item in data.get("metrics", []) if item.get("run_id")],
                )
        except NotFound:
            return  # a server older than MLflow 3 has no logged models

    def models(self) -> Iterator[Model]:
        for wanted in ("", f"tags.`{PROMPT_TAG}` = 'true'"):  # a server tells of prompts only when asked for them
            query = {"max_results": 1000, "filter": wanted}
            for item in self._rest.pages("registered-models/search", "registered_models", query, post=False):
                aliases = {held["alias"]: int(held["version"]) for held in item.get("aliases", [])}
                yield Model(item["name"], item.get("description", ""), mapping(item.get("tags")), aliases)

    def versions(self, model: Model) -> Iterator[Version]:
        quoted = model.name.replace("'", "''")
        prompt = f" AND tags.`{PROMPT_TAG}` = 'true'" if model.tags.get(PROMPT_TAG) == "true" else ""
        query = {"filter": f"name='{quoted}'{prompt}", "max_results": 10_000}
        held = list(self._rest.pages("model-versions/search", "model_versions", query, post=False))
        for item in sorted(held, key=lambda found: int(found["version"])):
            source = item.get("source", "")
            yield Version(
                model=model.name,
                version=int(item["version"]),
                source=source,
                run_id=item.get("run_id") or None,
                model_id=item.get("model_id") or model_of(source),
                description=item.get("description", ""),
                user=item.get("user_id", ""),
                stage=item.get("current_stage", "None"),
                created_at=int(item.get("creation_timestamp") or 0),
                updated_at=int(item.get("last_updated_timestamp") or 0),
                tags=mapping(item.get("tags")),
            )

    def close(self) -> None:
        self._rest.close()


def _model_point(item: Json) -> ModelPoint:
    dataset = (item.get("dataset_name") or None, item.get("dataset_digest") or None)
    return ModelPoint(item["run_id"], point_of(item, stored=True), *dataset)
