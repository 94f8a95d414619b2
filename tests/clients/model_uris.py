"""What the stock client sees of `models:/` addresses: run as a script it prints the observations as JSON.

Ids, times and who registered are left out, so that two servers can be compared.
"""

import json
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

FIELDS = ("version", "run_id", "model_id", "source", "status", "current_stage", "description", "params", "metrics")
ROWS = [[0.0], [1.0]]


def observe(mlflow: Any, name: str) -> dict[str, Any]:
    """Log, register in every way, copy; then load and download by every address."""
    from sklearn.linear_model import LogisticRegression

    mlflow.set_experiment(name)
    client = mlflow.MlflowClient()
    model = LogisticRegression().fit(ROWS, [0, 1])
    with mlflow.start_run() as run:
        mlflow.log_param("depth", 3)
        logged = mlflow.sklearn.log_model(model, name="model", pip_requirements=["scikit-learn"], params={"a": "1"})
        mlflow.log_metric("auc", 0.5, step=2, model_id=logged.model_id)
        both = mlflow.sklearn.log_model(
            model, name="both", registered_model_name=f"{name}-both", pip_requirements=["scikit-learn"]
        )
    made = {
        "of a run": mlflow.register_model(f"runs:/{run.info.run_id}/model", name),
        "of a logged model": mlflow.register_model(f"models:/{logged.model_id}", name, tags={"t": "1"}),
        "while logging": client.get_model_version(f"{name}-both", str(both.registered_model_version)),
    }
    client.set_registered_model_alias(name, "champion", "2")
    client.update_model_version(name, "1", description="first")
    made |= {
        "copied": client.copy_model_version(f"models:/{name}/2", f"{name}-copy"),
        "copied by alias": client.copy_model_version(f"models:/{name}@champion", f"{name}-copy"),
        "copied copy": client.copy_model_version(f"models:/{name}-copy/1", f"{name}-copy"),
        "read": client.get_model_version(name, "1"),
        "by alias": client.get_model_version_by_alias(name, "champion"),
    }
    found = client.search_model_versions(f"name = '{name}'")
    addresses = [f"models:/{name}/1", f"models:/{name}@champion", f"models:/{name}/latest", f"models:/{name}-copy/3"]
    addresses += [f"models:/{logged.model_id}", f"runs:/{run.info.run_id}/model"]
    client.delete_model_version(f"{name}-copy", "1")
    seen = {
        "versions": {how: shown(version) for how, version in made.items()},
        "found": [shown(version) | {"aliases": "MLflow's search leaves them out"} for version in found],
        "download": [
            client.get_model_version_download_uri(model, version)
            for model, version in ((name, "1"), (name, "2"), (f"{name}-copy", "2"), (f"{name}-copy", "3"))
        ],
        "loaded": {address: loaded(mlflow, address) for address in addresses},
        "refused": {address: refused(mlflow, address, name) for address in wrong(name)},
    }
    names = {run.info.run_id: "<run>", logged.model_id: "<model>", both.model_id: "<both>", name: "<name>"}
    text = json.dumps(seen)
    for known, shorter in names.items():
        text = text.replace(known, shorter)
    return json.loads(re.sub(r"(mlflow-artifacts|modelyard):/\d+", "<artifacts>", text))


def wrong(name: str) -> list[str]:
    return [f"models:/{name}/99", f"models:/{name}@none", "models:/nobody/1"]


def shown(version: Any) -> dict[str, Any]:
    held = {field: getattr(version, field) for field in FIELDS}
    return held | {"tags": dict(version.tags), "aliases": list(version.aliases)}


def loaded(mlflow: Any, address: str) -> dict[str, Any]:
    """What a model answers that was loaded from there, whose it is, and its files."""
    with tempfile.TemporaryDirectory() as folder:
        held = mlflow.artifacts.download_artifacts(address, dst_path=folder)
        files = sorted(str(file.relative_to(held)) for file in Path(held).rglob("*") if file.is_file())
    model = mlflow.pyfunc.load_model(address)
    return {
        "answers": [int(answer) for answer in mlflow.sklearn.load_model(address).predict(ROWS)],
        "model": model.metadata.model_id,
        "run": model.metadata.run_id,
        "files": files,
        "listed": sorted(item.path for item in mlflow.artifacts.list_artifacts(artifact_uri=address)),
        "about": mlflow.models.get_model_info(address).model_id,
    }


def refused(mlflow: Any, address: str, name: str) -> list[str]:
    """The error of loading, downloading and registering what is not there."""
    codes: list[str] = []
    for work in (
        mlflow.pyfunc.load_model,
        mlflow.artifacts.download_artifacts,
        lambda uri: mlflow.register_model(uri, name),
    ):
        try:
            work(address)
            codes.append("none")
        except mlflow.MlflowException as error:
            codes.append(error.error_code)
    return codes


if __name__ == "__main__":
    import mlflow as installed

    print(json.dumps(observe(installed, sys.argv[1])))
