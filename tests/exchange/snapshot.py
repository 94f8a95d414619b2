"""What an MLflow store holds, as stock MLflow reads it: run as `python snapshot.py URI` it prints JSON.

Ids are left out, since a copy may have others: runs are named by their name, logged models by name and run.
"""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"

import mlflow
from mlflow import MlflowClient
from mlflow.entities import ViewType

OURS = "modelyard."
DERIVED = ("mlflow.user", "mlflow.modelVersions")
"""What the server that is written to decides."""
PROMPTS = "tags.`mlflow.prompt.is_prompt` = 'true'"
HUGE = 1.7976931348623157e308
PREDICTED = [[0.1, 0.2], [0.9, 0.8]]


def snapshot(uri: str) -> dict[str, Any]:
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri, registry_uri=uri)
    experiments = list(client.search_experiments(view_type=ViewType.ALL))
    ids = [experiment.experiment_id for experiment in experiments]
    runs = list(client.search_runs(ids, run_view_type=ViewType.ALL, max_results=5000))
    models = list(client.search_logged_models(ids, max_results=50))
    names = {run.info.run_id: run.info.run_name for run in runs}
    names |= {model.model_id: f"{model.name} of {names.get(model.source_run_id)}" for model in models}
    return {
        "experiments": {
            item.name: [item.lifecycle_stage, plain(item.tags)] for item in experiments if item.name != "Default"
        },
        "runs": {run.info.run_name: shown_run(client, run, names) for run in runs},
        "logged models": {names[model.model_id]: shown_model(model, names) for model in models},
        "registered models": {
            model.name: [model.description or "", plain(model.tags), {k: str(v) for k, v in model.aliases.items()}]
            for model in [*client.search_registered_models(), *client.search_registered_models(PROMPTS)]
        },
        "versions": {
            f"{item.name} v{item.version}": shown_version(item, names)
            for item in [*client.search_model_versions(), *client.search_model_versions(PROMPTS)]
        },
        "answers": mlflow.sklearn.load_model("models:/real@champion").predict(PREDICTED).tolist(),
    }


def shown_run(client: MlflowClient, run: Any, names: dict[str, str]) -> dict[str, Any]:
    tags = plain(run.data.tags)
    if "mlflow.parentRunId" in tags:
        tags["mlflow.parentRunId"] = names[tags["mlflow.parentRunId"]]
    tags.pop("mlflow.log-model.history", None)  # names the run by its id
    return {
        "about": [run.info.status, run.info.lifecycle_stage, run.info.start_time, run.info.end_time],
        "params": run.data.params,
        "tags": tags,
        "metrics": {
            key: [[point.timestamp, point.step, value(point.value)] for point in history(client, run, key)]
            for key in run.data.metrics
        },
        "datasets": [
            [item.dataset.to_dictionary(), {t.key: t.value for t in item.tags}] for item in run.inputs.dataset_inputs
        ],
        "models in": sorted(names[item.model_id] for item in run.inputs.model_inputs),
        "models out": sorted(f"{names[item.model_id]} at {item.step}" for item in run.outputs.model_outputs),
        "files": digests(run.info.artifact_uri),
    }


def history(client: MlflowClient, run: Any, key: str) -> list[Any]:
    points = client.get_metric_history(run.info.run_id, key)
    return sorted(points, key=lambda point: (point.step, point.timestamp, str(value(point.value))))


def shown_model(model: Any, names: dict[str, str]) -> dict[str, Any]:
    metrics = [
        [point.key, point.step, value(point.value), point.dataset_name, point.dataset_digest, names[point.run_id]]
        for point in model.metrics or []
    ]
    return {
        "about": [str(model.status), model.model_type or ""],
        "params": model.params,
        "tags": plain(model.tags),
        "metrics": sorted(metrics, key=str),
        "files": digests(model.artifact_location),
    }


def shown_version(item: Any, names: dict[str, str]) -> list[Any]:
    about = [item.description or "", plain(item.tags), item.current_stage, names.get(item.run_id)]
    return [*about, digests(f"models:/{item.name}/{item.version}")]


def digests(uri: str) -> dict[str, str]:
    """Of every file below `uri`; a file that a registered model's download adds is left out."""
    with tempfile.TemporaryDirectory() as name:
        try:
            folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=name))
        except Exception:  # noqa: BLE001 - some repositories refuse to download an empty folder
            return {}
        files = [file for file in folder.rglob("*") if file.is_file() and file.name != "registered_model_meta"]
        return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def plain(tags: dict[str, str]) -> dict[str, str]:
    return {key: held for key, held in tags.items() if not key.startswith(OURS) and key not in DERIVED}


def value(number: float) -> float | str:
    """MLflow's SQL store keeps infinities as the greatest double."""
    if number != number:
        return "nan"
    return number if abs(number) < HUGE else ("inf" if number > 0 else "-inf")


if __name__ == "__main__":
    print(json.dumps(snapshot(sys.argv[1]), sort_keys=True))
